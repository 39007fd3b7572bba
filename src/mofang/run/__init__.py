"""From a version to an answer: deploy, serve."""
