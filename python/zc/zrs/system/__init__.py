"""Parts of the operating system: addresses, sockets, servers, forks, terminals."""
