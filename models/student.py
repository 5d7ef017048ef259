"""The student: a trainable that casts. Its light half (params, spec, needs) is models/students/__init__.py."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from models.casts import Cast
from models.needs import Given
from models.students import Ask, Spec
from models.training.trainable import Trainable


class Student(Trainable):
    """What the training engine, evaluation and generation need of a student.

    spec: what it was made for. network, selects, example, forward, loss, validate...: see
    `models.training.trainable.Trainable`.
    """

    spec: Spec

    @abstractmethod
    def predict(self, item: Given, ask: Ask) -> Cast:
        """A cast in the canonical frame, on whichever device the network is. Raises BadInput, EmptyOutput."""

    def asks(self, item: Given) -> Mapping[str, Ask]:
        """More predictions that an evaluation makes and measures, by name: the same item, something else asked for."""
        return {}
