"""The widgets of the page How it works."""
