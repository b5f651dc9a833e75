"""Label inference: strategies, certification, class priors and deliberate wrong labels."""
