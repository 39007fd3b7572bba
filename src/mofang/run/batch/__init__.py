"""Batches: files of requests that are answered by and by, and billed as if they were asked one by one."""
