"""From a framework's own format to a portable artifact, and the proof that it answers alike."""
