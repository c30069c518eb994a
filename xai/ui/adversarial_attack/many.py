"""Many pictures attacked in one job: the security curve over them."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from dataclasses import dataclass

from xai.bundles.attacks import smallest_text
from xai.images.render import input_picture
from xai.studies.adversarial.study import SecurityCurve, security_curve
from xai.types import Run
from xai.ui.adversarial_attack.state import Plan
from xai.ui.work import Net, Photo, Scene, png

VIEW = 96
"""Side of the small pictures, in pixels."""


@dataclass(frozen=True)
class SetRequest:
    """A study over pictures, at some positions of the slider."""

    photos: tuple[Photo, ...]
    view: str
    net: Net
    plan: Plan
    layer: str | None
    places: tuple[int, ...]

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Identity of the result."""
        shas = tuple(photo.sha for photo in self.photos)
        return ("attack set", shas, self.view, self.net.key, self.plan, self.layer, self.places)

    @property
    def passes(self) -> int:
        """Forward passes that it takes, about (a backward counts two)."""
        return len(self.photos) * self.plan.passes(self.net.load(), self.layer, self.places, bisect=True)

    def study(self, run: Run) -> SetFound:
        """One picture after another, of which only numbers are kept, on a copy of the network: nobody else waits."""
        classifier = self.net.load().private(run)
        parts, says, sure, becomes, views = [], [], [], [], []
        for index, photo in enumerate(self.photos):

            def report(done: int, total: int, note: str, index: int = index, photo: Photo = photo) -> None:
                whole = len(self.photos) * total
                run.on_progress(index * total + done, whole, f"{photo.name}: {note}")

            part = dataclasses.replace(run, on_progress=report)
            x = Scene(photo, self.view, self.net).tensor(classifier)
            made = self.plan.study(classifier, x, self.layer, self.places, part)
            before = made.output.probabilities(made.attacked[0].logits_before[0])
            says.append(made.output.answer(made.attacked[0].logits_before[0], classifier.labels))
            sure.append(float(before.max()))
            parts.append(made.numbers())
            turned = bool(made.success.any())
            place = int(made.success[:, 0].float().argmax())
            after = made.attacked[place].logits_after[0]
            becomes.append(made.output.answer(after, classifier.labels) if turned else "")
            views.append(png(input_picture(made.clean[0]).resize((VIEW, VIEW))))
        names = tuple(photo.name for photo in self.photos)
        norm = self.plan.norm
        smallest = [smallest_text(float(part.smallest), norm, bool(part.already)) for part in parts]
        curve = security_curve(parts)
        facts = (tuple(says), tuple(sure), tuple(smallest), tuple(becomes), tuple(views))
        return SetFound(curve, names, *facts, made.protocol.sentence)


@dataclass(frozen=True, eq=False)
class SetFound:
    """The curve over pictures, and what became of each.

    smallest: the smallest epsilon that turns it, in words. becomes: what it is taken for at the first epsilon tried
    that turns it, or "". views: what the network saw, small, as PNG.
    """

    curve: SecurityCurve
    names: tuple[str, ...]
    says: tuple[str, ...]
    sure: tuple[float, ...]
    smallest: tuple[str, ...]
    becomes: tuple[str, ...]
    views: tuple[bytes, ...]
    protocol: str
