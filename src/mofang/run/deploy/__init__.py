"""Desired state: endpoints, their numbered revisions, and the rollouts between them."""
