"""The control plane over HTTP: one thin router per stage, composed by ``app.create_app``."""
