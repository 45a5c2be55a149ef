"""What processes share with others: addresses, sockets, connections, forks."""
