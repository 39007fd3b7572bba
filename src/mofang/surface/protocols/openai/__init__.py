"""The OpenAI API: what its clients send becomes orders to language models, and streams become what they expect."""
