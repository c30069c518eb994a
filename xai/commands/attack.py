"""`attack`: each image at every epsilon, with what it does to prediction and explanation."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai.commands._images import HELP, Picture, find_pictures
from xai.commands._interrupt import interruptible
from xai.commands._options import add_json, add_output, add_run, load_models, with_outputs
from xai.commands.output import Progress, say, say_json, tell
from xai.commands.spec import COMMANDS, Command
from xai.errors import Cancelled, InputError, ModuleStateError
from xai.params import check_between
from xai.words import counted

if TYPE_CHECKING:
    from xai.attacks.spec import Attack
    from xai.models.classifier import Classifier
    from xai.stats.intervals import Band
    from xai.studies.adversarial.study import EpsilonNumbers, EpsilonStudy

DESCRIPTION = """Attack images at every epsilon: adversarial PNGs, perturbations (.npy), the maps of the old and the new
class before and after, a table over epsilon beside random noise of equal norm, and manifest.json."""

EPILOG = """Epsilons and --step-size are in 1/255 for --norm linf, and in pixel units of [0, 1] for --norm l2. With more
than one image the manifest also holds the success rate against epsilon with its 95 % Wilson interval. The smallest
epsilon is an upper bound, found by bisection to 0.1/255 (L2: 0.01). A file's name holds the epsilon that was asked for
and the norm that the file has.
exit codes:
  0    every image is attacked
  1    some images could not be attacked (listed on stderr); all others are written
  2    nothing could be attacked, or the request was wrong
  130  stopped by Ctrl-C; the images attacked before stay, with a manifest that says so

examples:
  python -m xai attack sample:coffee --epsilon 0:16:1 --steps 10 --out attacked
  python -m xai attack cat.jpg --norm l2 --epsilon 0:3:0.25 --target "tiger cat" --json"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `attack`."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help=HELP)
    parser.add_argument(
        "--model", default="efficientnet_lite0", metavar="NAME", help="classifier (default: efficientnet_lite0)"
    )
    parser.add_argument(
        "--weights",
        default="imagenet",
        metavar="W",
        help="imagenet, random:SEED, file:PATH or run:ID (default: imagenet)",
    )
    add_output(parser)
    parser.add_argument("--attack", default="pgd", metavar="NAME", help="pgd or fgsm (default: pgd)")
    parser.add_argument("--norm", choices=("linf", "l2"), default="linf", help="the ball's norm (default: linf)")
    parser.add_argument(
        "--epsilon",
        nargs="+",
        default=["0:16:1"],
        metavar="E",
        help="values, or A:B:STEP with both ends (default: 0:16:1)",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="steps of pgd (default: 10)")
    parser.add_argument("--step-size", type=float, metavar="A", help="step of pgd (default: 2.5 epsilon / steps)")
    parser.add_argument(
        "--loss", metavar="NAME", help="what is climbed: cross-entropy or margin (default: cross-entropy)"
    )
    parser.add_argument(
        "--envelope",
        action="store_true",
        help="at each epsilon keep the best found there or at a smaller one (default: each epsilon's own attack)",
    )
    parser.add_argument("--restarts", type=int, metavar="N", help="random restarts of pgd (default: 1)")
    parser.add_argument(
        "--target", metavar="CLASS", help="class to reach, by index or name (default: away from the predicted)"
    )
    parser.add_argument(
        "--method", default="gradcam", metavar="NAME", help="explanation that is followed (default: gradcam)"
    )
    parser.add_argument("--layer", metavar="PATH", help="layer of the explanation (default: the classifier's)")
    parser.add_argument(
        "--view", choices=("crop", "whole"), default="crop", help="what the network sees (default: crop)"
    )
    add_run(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("attacked"), metavar="DIR", help="folder to write to (default: attacked)"
    )
    add_json(parser, "the manifest")


def parse_epsilons(words: Sequence[str], norm: str) -> list[float]:
    """Values and A:B:STEP ranges (both ends in) as pixel units of [0, 1], ascending, each once."""
    from xai.attacks.call import MOST_EPSILONS

    unit = 255 if norm == "linf" else 1
    found: set[float] = set()
    for word in words:
        try:
            numbers = [float(part) for part in word.split(":")]
        except ValueError:
            numbers = []
        if not all(map(math.isfinite, numbers)):
            numbers = []
        if len(numbers) == 1:
            found.add(numbers[0])
        elif len(numbers) == 3 and numbers[2] > 0 and numbers[1] >= numbers[0]:
            low, high, step = numbers
            if (high - low) / step + 1e-9 >= MOST_EPSILONS:
                raise InputError(f"--epsilon {word} has more than {MOST_EPSILONS} values; give a larger step.")
            found.update(low + step * index for index in range(int((high - low) / step + 1e-9) + 1))
        else:
            unit_text = " in 1/255" if norm == "linf" else ""
            raise InputError(f"--epsilon {word!r} is not a number or A:B:STEP{unit_text}, such as 0:16:1.")
        if numbers[0] < 0 or (norm == "linf" and max(numbers[:2]) > unit):
            reach = "0 to 255, which are 1/255 each" if norm == "linf" else "0 or more"
            raise InputError(f"--epsilon {word!r} is out of range; give {reach}.")
    # What reads alike (a file is named by it) is one value.
    values = sorted({f"{value:.4g}": value for value in sorted(found)}.values())
    check_between("the number of epsilons", len(values), 1, MOST_EPSILONS)
    return [value / unit for value in values]


def attack_of(args: argparse.Namespace) -> Attack:
    """The attack's parameters from the options."""
    from xai.attacks.spec import ATTACKS

    unit = 255 if args.norm == "linf" else 1
    params: dict[str, Any] = {"norm": args.norm, "targeted": args.target is not None}
    spec = ATTACKS.get(args.attack)
    if args.step_size is not None and not 0 < args.step_size < math.inf:
        raise InputError(f"--step-size is {args.step_size:g}; it must be above 0 and finite.")
    size = None if args.step_size is None else args.step_size / unit
    params |= {"loss": args.loss} if args.loss is not None else {}
    own = {"steps": args.steps, "step_size": size, "restarts": args.restarts}
    given = {name: value for name, value in own.items() if value is not None}
    if given and not spec.iterative:
        option = next(iter(given)).replace("_", "-")
        raise InputError(f"--{option} does not apply to {spec.title}, which takes no steps one by one; leave it out.")
    return spec.params(**params, **given)


def run(args: argparse.Namespace) -> int:
    """Attack, write, and list what could not be attacked."""
    from xai.bundles.explanations import make_folder, manifest_bytes
    from xai.explain.spec import METHODS
    from xai.files import write_files
    from xai.models.classes import class_index

    epsilons, params = parse_epsilons(args.epsilon, args.norm), attack_of(args)
    METHODS.get(args.method)  # before a network is loaded
    pictures, unknown = find_pictures(args.images, skip=args.out)
    if not pictures:
        raise InputError(" ".join(sentence for _, sentence in unknown))
    [(classifier, _)] = load_models([args.model], with_outputs([args.weights], args.output), args.device)
    label = None if args.target is None else class_index(classifier, args.target)
    check_explanation(classifier, args)
    make_folder(args.out)
    done = Done([{"source": source, "reason": reason} for source, reason in unknown])
    complete = False
    try:
        with interruptible() as cancelled, Progress() as progress:
            for number, picture in enumerate(pictures):
                share = (number, len(pictures), cancelled, progress)
                try:
                    study = study_of(picture, classifier, epsilons, params, label, args, share)
                    files, entry = files_of(study, classifier, picture, [each["folder"] for each in done.images])
                except (Cancelled, KeyboardInterrupt):
                    tell(
                        f"stopped at image {number + 1} of {len(pictures)}, {picture.source}: nothing of it is kept, "
                        f"because its epsilons are attacked together; {len(done.images)} finished before it are in "
                        f"{args.out}."
                    )
                    raise
                except ModuleStateError:
                    raise
                except InputError as error:
                    done.bad.append({"source": picture.source, "reason": str(error)})
                    continue
                except Exception as error:  # one image's fault must not lose the others; it is listed, not hidden
                    done.fault(picture.source, error)
                    continue
                write_files(args.out, files)
                done.keep(study, files, entry)
        complete = True
    finally:  # what was finished stays, with a manifest that says whether it is all
        manifest = manifest_of(done, args, complete)
        write_files(args.out, {"manifest.json": manifest_bytes(manifest)})
    return report(manifest, args, done.failed)


def check_explanation(classifier: Classifier, args: argparse.Namespace) -> None:
    """Raise `InputError` for a layer or a method that this classifier does not take, whatever the picture."""
    from xai.explain.call import check_applies

    if args.layer is not None:
        classifier.layer(args.layer)
    check_applies(classifier, args.method, args.layer)


@dataclass(eq=False)
class Done:
    """What has been attacked so far, and what could not be; failed: some of it by a fault of the program."""

    bad: list[dict[str, str]]
    failed: bool = False
    images: list[dict[str, Any]] = field(default_factory=list)
    numbers: list[EpsilonNumbers] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    def fault(self, source: str, error: Exception) -> None:
        """Count an image at which the program failed."""
        self.failed = True
        self.bad.append({"source": source, "reason": f"{type(error).__name__}: {error}"})

    def keep(self, study: EpsilonStudy, files: dict[str, bytes], entry: dict[str, Any]) -> None:
        """Count an image whose files are written."""
        from xai.bundles.attacks import listed

        self.images.append(entry)
        self.numbers.append(study.numbers())  # not the study: its pictures would fill the memory
        self.files |= listed(files)


def manifest_of(done: Done, args: argparse.Namespace, complete: bool) -> dict[str, Any]:
    """What was made, by which command, and what could not be."""
    from xai.bundles.attacks import manifest

    rated = [each for each in done.numbers if not bool(each.already.all())]
    over = over_images(done.numbers) if len(done.numbers) > 1 and rated else None
    return manifest(done.images, done.files, shlex.join(["python", "-m", "xai", *args.words]), complete, over, done.bad)


def study_of(
    picture: Picture,
    classifier: Classifier,
    epsilons: Sequence[float],
    params: Attack,
    label: int | None,
    args: argparse.Namespace,
    share: tuple[int, int, Any, Progress],
) -> EpsilonStudy:
    """The study of one image; progress is its share of all images."""
    from xai.studies.adversarial.study import epsilon_study
    from xai.types import Run

    number, count, cancelled, progress = share

    def on_progress(done: int, total: int, note: str) -> None:
        progress((number + done / max(total, 1)) / count, f"{picture.name} {note}")

    image, _ = picture.open()
    return epsilon_study(
        classifier,
        classifier.preprocess(image, args.view),
        epsilons,
        attack=args.attack,
        params=params,
        labels=label,
        method=args.method,
        layer=args.layer,
        envelope=args.envelope,
        run=Run(seed=args.seed, on_progress=on_progress, cancelled=cancelled),
    )


def files_of(
    study: EpsilonStudy, classifier: Classifier, picture: Picture, taken: Sequence[str]
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of one image and its manifest entry, in a folder that no other image has."""
    from xai.bundles.attacks import entry, image_files
    from xai.files import safe_name

    folder = safe_name(Path(picture.name).stem, {name.casefold() for name in taken})
    return image_files(study, classifier, folder), entry(study, classifier, folder, picture.source)


def over_images(studies: Sequence[EpsilonNumbers]) -> Any:
    """Rates and mean shifts against epsilon over all images, each with its 95 % interval."""
    from xai.bundles.entry import plain as bundle_plain
    from xai.studies.adversarial.study import security_curve

    curve = security_curve(studies)
    found: dict[str, Any] = {"epsilons": curve.epsilons.tolist(), "images": curve.success.n, "already": curve.already}
    found["protocol"] = curve.protocol

    def plain(band: Band) -> dict[str, list[float]]:
        return {"mean": band.mean.tolist(), "low": band.low.tolist(), "high": band.high.tolist()}

    for name in ("success", "survives_png", "noise_turns"):
        found[name] = plain(getattr(curve, name))
    found["shift_of_the_old_class"] = {
        who: {name: plain(band) for name, band in measures.items()} for who, measures in curve.shift.items()
    }
    turned = curve.smallest
    found["smallest_epsilon"] = None
    if turned is not None:
        interval = (
            f"its bootstrap {100 * turned.level:g} % interval" if turned.n > 1 else "no interval: it is one image"
        )
        found["smallest_epsilon"] = {
            "mean": turned.mean,
            "low": turned.low,
            "high": turned.high,
            "images": turned.n,
            "protocol": f"mean upper bound over the images that are turned, with {interval}",
        }
    found["never_turned"] = curve.never
    return bundle_plain(found)


def report(manifest: dict[str, Any], args: argparse.Namespace, failed: bool = False) -> int:
    """Say what was found and what was not; returns the exit code. failed: the program failed at an image."""
    for each in manifest["bad"]:
        tell(f"bad: {each['source']}: {each['reason']}")
    if args.json:
        say_json(manifest)
    else:
        for image in manifest["images"]:
            best = image["clean"][0]
            untrained = " (random weights: this means nothing)" if image["random_weights"] else ""
            says = f"{best['name']} ({100 * best['probability']:.1f} %){untrained}."
            say(f"{image['source']}: {says} {image['answer']}")
            for caution in filter(None, (image["no_gradient"], image["noise_falls_short"])):
                say(f"{image['source']}: {caution}")
        if manifest["images"]:
            say(manifest["images"][0]["protocol"])
            say(f"Wrote {counted(len(manifest['files']) + 1, 'file')} to {args.out}")
    if failed or (manifest["bad"] and manifest["images"]):
        return 1
    return 0 if manifest["images"] else 2


COMMANDS.add(
    Command("attack", "attack images and follow prediction and explanation", 50, add_options, run, DESCRIPTION, EPILOG)
)
