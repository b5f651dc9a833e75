"""The popover "Why?" beside a result: one sentence, one drawing, what would help, and the formula on request."""

from ui.why.popover import why
from ui.why.topics import TOPICS, Topic, topic_of

__all__ = ["TOPICS", "Topic", "topic_of", "why"]
