"""From a language model to text."""
