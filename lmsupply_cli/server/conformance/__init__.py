"""Whether a server does what its API promises: a table of requests and what must happen, for any server by its URL."""
