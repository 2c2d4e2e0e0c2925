"""trioraft beside PySyncObj, etcd and hashicorp/raft: `python -m benchmarks.peers`."""
