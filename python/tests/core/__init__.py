"""The decisions of clients and servers, taken step by step."""
