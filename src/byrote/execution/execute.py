"""Train what is missing, shard by shard, and keep every run before the next begins."""
