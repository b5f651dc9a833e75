"""Target models, their training, and one client round: what the server sends and receives."""
