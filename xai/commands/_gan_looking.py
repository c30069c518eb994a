"""What `gan` does with a generator that is trained: draw, walk, look for copies, reconstruct, export, judge."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from xai.commands._interrupt import interruptible
from xai.commands.output import Progress, say, say_json, table
from xai.errors import InputError

if TYPE_CHECKING:
    import torch

    from xai.gan.saved import Generator
    from xai.types import Run


def sample(args: argparse.Namespace) -> int:
    """A grid of samples."""
    from xai.files import write_atomic
    from xai.gan import sample as drawing
    from xai.gan.saved import load_generator
    from xai.settings import resolve_device

    name, count = ("--count", args.count) if args.each is None else ("--each", args.each)
    if count < 1:
        raise InputError(f"{name} is {count}; give 1 or more.")
    if args.each is not None and args.label is not None:
        raise InputError("--each draws every class and --class one; leave one of them out.")
    made = load_generator(args.generator, resolve_device(args.device))
    seeds = range(args.seed, args.seed + count)
    images, labels = (
        drawing.sample(made, seeds, args.label, args.truncation)
        if args.each is None
        else drawing.sample_each(made, seeds, args.truncation)
    )
    write_atomic(args.out, drawing.grid_png(images, labels))
    _drawn(args, made, seeds=[*seeds], labels=labels.tolist())
    return 0


def _drawn(args: argparse.Namespace, made: Generator, **facts: Any) -> None:
    """What was drawn, of which generator, for people or machines."""
    if args.json:
        told = {"out": str(args.out), "generator": made.fingerprint, "truncation": args.truncation, **facts}
        say_json({**told, "classes": list(made.classes)})
    else:
        seeds = facts["seeds"]
        say(f"seeds {seeds[0]} to {seeds[-1]} of generator {made.fingerprint}: {args.out}")


@contextmanager
def _working(device: torch.device, seed: int = 0) -> Iterator[Run]:
    """A run with a progress bar, which Ctrl-C stops."""
    from xai.types import Run

    with Progress() as progress, interruptible() as stopped:
        yield Run(device, seed, lambda done, total, note: progress(done / max(1, total), note), stopped)


def nearest(args: argparse.Namespace) -> int:
    """Samples, each beside its nearest training image."""
    from xai.files import write_atomic
    from xai.gan import sample as drawing
    from xai.gan.features import lite0
    from xai.gan.saved import load_generator
    from xai.settings import resolve_device
    from xai.studies.gan.quality import shares_of

    if args.count < 1:
        raise InputError(f"--count is {args.count}; give 1 or more.")
    device = resolve_device(args.device)
    made = load_generator(args.generator, device)
    with _working(device) as run:
        train = shares_of(made, run, args.data).train
        seeds = range(args.seed, args.seed + args.count)
        images, labels = drawing.sample(made, seeds, None, args.truncation)
        found = drawing.nearest_training(images, train, lite0(device), run)
    real = train.images[found.places].float() / 255
    write_atomic(args.out, drawing.grid_png(drawing.pairs(images, real)))
    keys = [train.keys[place] for place in found.places.tolist()]
    rows = [
        {"seed": seed, "class": made.names[label] if made.names else "", "nearest": key, "distance": distance}
        for seed, label, key, distance in zip(seeds, labels.tolist(), keys, found.distances.tolist(), strict=True)
    ]
    if not args.json:
        cells = [[*map(str, [*row.values()][:3]), f"{row['distance']:.1f}"] for row in rows]
        say(table(["seed", "class", "nearest training image", "distance"], cells))
        say(f"\n{found.measure}")
    _drawn(args, made, seeds=[*seeds], measure=found.measure, pairs=rows)
    return 0


def reconstruct(args: argparse.Namespace) -> int:
    """Real images above what the discriminator draws of them."""
    import torch

    from xai.files import write_atomic
    from xai.gan.sample import grid_png, reconstructions
    from xai.gan.saved import load_discriminator, load_generator
    from xai.settings import resolve_device
    from xai.studies.gan.quality import first_pictures
    from xai.types import Run

    device = resolve_device(args.device)
    real = first_pictures(load_generator(args.generator), 1, Run(device), args.data).pixels()
    made, wanted = reconstructions(load_discriminator(args.generator, device), real)[0]
    lines = torch.arange(2).repeat_interleave(len(real))
    write_atomic(args.out, grid_png(torch.cat([wanted, made]), lines))
    if args.json:
        say_json({"out": str(args.out), "images": len(real), "size": int(made.shape[-1])})
    else:
        say(f"{len(real)} real images, below them their reconstructions: {args.out}")
    return 0


def interpolate(args: argparse.Namespace) -> int:
    """A walk from one sample to another as a GIF."""
    from xai.files import write_atomic
    from xai.gan.sample import gif, walk
    from xai.gan.saved import load_generator
    from xai.settings import resolve_device

    made = load_generator(args.generator, resolve_device(args.device))
    label = args.label if args.label is not None else 0
    images = walk(made, args.from_seed, args.to_seed, label, args.frames, args.truncation)
    write_atomic(args.out, gif(images))
    _drawn(args, made, seeds=[args.from_seed, args.to_seed], frames=args.frames)
    return 0


def export(args: argparse.Namespace) -> int:
    """A trained generator, and its discriminator, as files of their own."""
    from xai.gan.saved import discriminator_path, load_discriminator, load_generator, save_discriminator, save_generator

    save_generator(args.out, load_generator(args.generator), args.half)
    paths = [args.out.with_suffix(".safetensors")]
    if discriminator_path(args.generator).is_file():
        save_discriminator(args.out, load_discriminator(args.generator), args.half)
        paths.append(discriminator_path(args.out))
    if args.json:
        say_json({"files": {str(path): path.stat().st_size for path in paths}})
        return 0
    for path in paths:
        say(f"{path.stat().st_size / 1e6:.1f} MB: {path}")
    return 0


def quality(args: argparse.Namespace) -> int:
    """The samples judged against real images and noise."""
    from xai.files import write_atomic
    from xai.gan.saved import load_generator
    from xai.settings import resolve_device
    from xai.studies.gan.quality import judge_generator

    if args.count < 20:
        raise InputError(f"--count is {args.count}; give 20 or more, of fewer nothing can be said.")
    device = resolve_device(args.device)
    made = load_generator(args.generator, device)
    with _working(device, args.seed) as run:
        found, _, _ = judge_generator(made, run, args.data, args.count, args.extractor, args.truncation)
    known = {"generator": made.fingerprint, "facts": dict(made.facts), "truncation": args.truncation}
    told = {**known, **found.as_json()}
    if args.out is not None:
        write_atomic(args.out, (json.dumps(told, indent=1, allow_nan=False) + "\n").encode())
    if args.json:
        say_json(told)
        return 0
    rows = found.rows()
    cells = [[f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    say(table(list(rows[0]), cells))
    say(f"\nfeatures: {found.extractor_sentence}; against {found.samples.n_real} held-out real images")
    say(f"memorisation: {found.copying.sentence}")
    apart = f"{found.pixel_ratio:.2f} of the real one's in pixels, {found.feature_ratio:.2f} in features"
    say(f"diversity within a class: {apart}")
    if found.agreement is not None:
        a = found.agreement
        say(f"class agreement: {a['agreement']:.2f} by {a['classifier']}")
        say(f"  (which is right on {a['accuracy']:.2f} of the held-out real images)")
    return 0
