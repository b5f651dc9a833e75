"""Feature vectors of single images, recovered from the last layer's gradient."""
