"""The one inference path: from a request that was read to an answer that was recorded."""
