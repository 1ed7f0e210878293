"""Who wants a picture, and until when."""

from dataclasses import dataclass

from backend.deadline import Deadline
from backend.images.host import LabelStudioHost


@dataclass(frozen=True)
class Asker:
    """The request for which something is brought in.

    Attributes:
        host: The Label Studio that it came from.
        deadline: When it has to be answered.
        owner: With whom others take turns: the project.
    """

    host: LabelStudioHost
    deadline: Deadline
    owner: str = ""
