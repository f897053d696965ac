"""The real cores of servers and clients, in virtual time, under faults that a seed decides."""
