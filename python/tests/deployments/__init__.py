"""The reference on a cluster and on Sentinel."""
