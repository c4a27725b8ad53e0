"""An incremental look at directory trees: what is new, changed or gone since the last look.

The cost of a look follows what is new, not what is there:

- A directory is listed (names only) when its modification time changed; only names not known
  yet are examined.
- The directories and files that changed last, and the directories above them, are looked at
  in every scan, newest first.
- Everything else is visited by a *patrol* that gets a few milliseconds a scan and goes round:
  it finds files rewritten in place (their directory's time does not change), and directories
  that came to life again. A small tree is patrolled completely in every scan.

Times of a file system can be coarse, skewed or wrong, so they are compared for equality only:

- A directory is listed again ``TICK_S`` after its present time was first seen, and a small one
  in every scan until then: a second change within one tick (2 s on FAT) leaves no other trace.
- A directory is listed anyway when its last listing is older than ``sweep_s``. If that finds
  what its time had hidden, times of that folder are not trusted any more.

New content of the same size within the same tick, or with the time set back, cannot be told
from the old.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

from pychip_live.sources.tree import (
    Changes,
    Directory,
    Root,
    Sighting,
    Signature,
    is_inside,
    is_temporary,
    signature_of,
)

TICK_S = 2.5
HOT_DIRECTORIES = 32
HOT_FILES = 64
SMALL = 1000  # names that are listed without a second thought
PATROL_S = 0.005
PATROL_STEPS = 32

_JUNCTION = 0xA0000003  # IO_REPARSE_TAG_MOUNT_POINT, a link to a directory on Windows

logger = logging.getLogger(__name__)


class TreeScanner:
    """Finds changes in several directory trees; not thread-safe.

    Parameters
    ----------
    folders
        Absolute paths, none inside another.
    suffixes
        File name endings of interest, lower case with the dot.
    sweep_s
        Longest age of a directory listing before it is made again, s.
    """

    def __init__(
        self, folders: Sequence[str], suffixes: frozenset[str], *, sweep_s: float = 30.0
    ) -> None:
        self._roots = [Root(folder) for folder in folders]
        self._suffixes = tuple(suffixes)
        self._sweep_s = sweep_s
        self._links: set[str] = set()
        self._unreadable: set[str] = set()
        self._directories: dict[Directory, None] = {}
        self._recent: OrderedDict[Directory, None] = OrderedDict()
        self._recent_files: OrderedDict[tuple[Directory, str], None] = OrderedDict()
        self._todo: list[Directory] = []
        self._patrol = self._walk_round()
        self._changes = Changes()
        self._number = 0

    @property
    def missing(self) -> list[str]:
        """Watched folders that are not there or cannot be read."""
        return [root.path for root in self._roots if root.directory is None]

    def scan(self) -> Changes:
        """Look at what is likely to have changed, and patrol a part of the rest."""
        self._number += 1
        known = len(self._directories)
        for root in self._roots:
            self._check_root(root)
        for directory in reversed(list(self._recent)):
            self._visit(directory)
        for directory, name in reversed(list(self._recent_files)):
            self._examine_again(directory, name)
        if len(self._directories) - known > HOT_DIRECTORIES:
            # Many came at once, in no order: the newest of them are the ones to watch.
            newest = sorted(self._directories, key=lambda each: each.mtime_ns)
            for directory in newest[-HOT_DIRECTORIES:]:
                self._touch(directory)
        self._go_on_patrol()
        return self._report()

    def look(self, paths: Iterable[str]) -> Changes:
        """Look at these paths only; those outside the folders are ignored."""
        for path in paths:
            self._look_at(path)
        return self._report()

    def _report(self) -> Changes:
        # Only now are the changes given away: a look that fails half-way loses none of them.
        changes, self._changes = self._changes, Changes()
        return changes

    def _look_at(self, path: str) -> None:
        for root in self._roots:
            directory = root.directory
            if directory is None or not is_inside(path, root.path):
                continue
            relative = path[len(root.path) :].strip(os.sep)
            for name in relative.split(os.sep) if relative else ():  # noqa: PTH206
                entry = directory.entries.get(name)
                if isinstance(entry, Directory):
                    directory = entry
                    continue
                if isinstance(entry, tuple):
                    self._examine_again(directory, name)
                elif name not in directory.entries:
                    self._enter(directory, name)
                    self._list_todo()
                return
            self._visit(directory, again=True)
            return

    def _check_root(self, root: Root) -> None:
        try:
            status = os.stat(root.path)  # noqa: PTH116  (strings: paths are too slow here)
            present = stat.S_ISDIR(status.st_mode)
        except OSError:
            present = False
        directory = root.directory
        if directory is not None and (
            not present or directory.inode != (status.st_dev, status.st_ino)
        ):
            # Gone, or another folder under the same name: forget it, so that all of it is
            # looked at again. Whoever keeps signatures does not take a file twice.
            self._remove(directory, report=False)
            root.directory = directory = None
        if not present:
            return
        if directory is None:
            root.real = os.path.realpath(root.path)
            root.trusted = True
            directory = Directory(root.path, "", root, None)
            directory.inode = (status.st_dev, status.st_ino)
            self._directories[directory] = None
        if not self._visit(directory):
            self._remove(directory, report=False)
            root.directory = None
        elif root.directory is None:
            root.directory = directory
            self._changes.appeared.append(root.path)

    def _visit(self, directory: Directory, *, again: bool = False) -> bool:
        """List a directory if it may have changed; False when it could not be read."""
        if not directory.alive or (directory.visit == self._number and not again):
            return True
        directory.visit = self._number
        now = time.monotonic()
        try:
            # The time must be read before the names: a name added in between shows next time.
            status = os.stat(directory.path)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            self._remove_from_parent(directory)
            return False
        except OSError:
            return False
        inode = (status.st_dev, status.st_ino)
        if directory.inode != inode:
            if directory.entries:
                self._remove_entries(directory)
            directory.inode = inode
            directory.mtime_ns = -1
        if directory.mtime_ns != status.st_mtime_ns:
            directory.mtime_ns = status.st_mtime_ns
            directory.changed_at = now
            directory.listed_at = -float("inf")
        settled_at = directory.changed_at + TICK_S
        small = len(directory.entries) < SMALL
        if (
            directory.listed_at < directory.changed_at
            or (directory.listed_at < settled_at and (small or now >= settled_at))
            or directory.restless
            or not directory.root.trusted
        ):
            return self._list(directory, now)
        if now - directory.listed_at > self._sweep_s:
            return self._sweep(directory, now)
        return True

    def _sweep(self, directory: Directory, now: float) -> bool:
        before = len(self._changes.seen) + len(self._directories)
        if not self._list(directory, now):
            return False
        if len(self._changes.seen) + len(self._directories) > before:
            try:
                hidden = os.stat(directory.path).st_mtime_ns == directory.mtime_ns  # noqa: PTH116
            except OSError:
                return False
            if hidden:
                directory.root.trusted = False
                logger.warning(
                    "%s: new files do not change the time of their directory; "
                    "directories are listed in every scan from now on",
                    directory.root.path,
                )
        return True

    def _list(self, directory: Directory, now: float) -> bool:
        self._todo.append(directory)
        self._list_todo()
        return directory.listed_at >= now

    def _list_todo(self) -> None:
        """List the directories that wait for it, and those found in them."""
        while self._todo:
            directory = self._todo.pop()
            now = time.monotonic()
            try:
                names = os.listdir(directory.path)  # noqa: PTH208
            except FileNotFoundError:
                self._remove_from_parent(directory)
                continue
            except OSError as error:
                if directory.path not in self._unreadable:
                    self._unreadable.add(directory.path)
                    logger.warning("%s cannot be listed, trying again: %s", directory.path, error)
                directory.restless = True
                continue
            self._unreadable.discard(directory.path)
            directory.restless = False
            directory.listed_at = now
            entries = directory.entries
            fresh = [name for name in names if name not in entries]
            failed = sum(not self._enter(directory, name) for name in fresh)
            if len(entries) + failed != len(names):
                for name in entries.keys() - set(names):
                    self._drop(directory, name)

    def _enter(self, directory: Directory, name: str) -> bool:
        """Examine a name not known yet; False when that was not possible now."""
        if is_temporary(name):
            directory.entries[name] = None
            return True
        path = os.path.join(directory.path, name)  # noqa: PTH118
        try:
            status = os.lstat(path)
            link = stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", 0) == _JUNCTION
            if link:
                status = os.stat(path)  # noqa: PTH116
        except FileNotFoundError:
            return False
        except OSError:
            directory.restless = True
            return False
        if stat.S_ISDIR(status.st_mode):
            return self._enter_directory(directory, name, path, status, link)
        # Never a pipe or a device, whatever its name: opening one can block for ever.
        if not stat.S_ISREG(status.st_mode) or not name.lower().endswith(self._suffixes):
            directory.entries[name] = None
            return True
        self._see(directory, name, signature_of(status))
        self._touch(directory)
        return True

    def _enter_directory(
        self, parent: Directory, name: str, path: str, status: os.stat_result, link: bool
    ) -> bool:
        directory = Directory(path, f"{parent.prefix}{name}/", parent.root, parent)
        if link:
            real = os.path.realpath(path)
            others = [root.real for root in self._roots] + list(self._links)
            if any(is_inside(real, other) or is_inside(other, real) for other in others):
                parent.entries[name] = None  # a loop, or a second way to what is watched anyway
                return True
            directory.real_link = real
            self._links.add(real)
        directory.inode = (status.st_dev, status.st_ino)
        directory.mtime_ns = status.st_mtime_ns
        directory.changed_at = time.monotonic()
        directory.visit = self._number
        parent.entries[name] = directory
        self._directories[directory] = None
        self._touch(directory)
        self._todo.append(directory)
        return True

    def _examine_again(self, directory: Directory, name: str) -> None:
        known = directory.entries.get(name)
        if not directory.alive or not isinstance(known, tuple):
            return
        try:
            status = os.stat(os.path.join(directory.path, name))  # noqa: PTH116, PTH118
        except FileNotFoundError:
            self._drop(directory, name)
            return
        except OSError:
            return
        if not stat.S_ISREG(status.st_mode):
            self._drop(directory, name)
        elif signature_of(status) != known:
            self._see(directory, name, signature_of(status))

    def _see(self, directory: Directory, name: str, signature: Signature) -> None:
        directory.entries[name] = signature
        path = os.path.join(directory.path, name)  # noqa: PTH118
        self._changes.seen[path] = Sighting(
            directory.root.path, path, directory.prefix + name, signature
        )
        self._changes.gone.discard(path)
        file = (directory, name)
        self._recent_files[file] = None
        self._recent_files.move_to_end(file)
        if len(self._recent_files) > HOT_FILES:
            self._recent_files.popitem(last=False)

    def _touch(self, directory: Directory) -> None:
        """Note that a directory is alive, after those above it: the next one appears in them."""
        branch: list[Directory] = []
        each: Directory | None = directory
        while each is not None:
            branch.append(each)
            each = each.parent
        for each in reversed(branch):
            self._recent[each] = None
            self._recent.move_to_end(each)
            if len(self._recent) > HOT_DIRECTORIES:
                self._recent.popitem(last=False)

    def _drop(self, directory: Directory, name: str) -> None:
        entry = directory.entries.pop(name, None)
        if isinstance(entry, Directory):
            self._remove(entry, report=True)
        elif entry is not None:
            path = os.path.join(directory.path, name)  # noqa: PTH118
            self._changes.gone.add(path)
            self._changes.seen.pop(path, None)

    def _remove_entries(self, directory: Directory) -> None:
        for name in list(directory.entries):
            self._drop(directory, name)

    def _remove_from_parent(self, directory: Directory) -> None:
        if directory.parent is None:
            return  # a root: the next scan finds it missing
        name = directory.prefix.rstrip("/").rpartition("/")[2]
        if directory.parent.entries.get(name) is directory:
            self._drop(directory.parent, name)

    def _remove(self, directory: Directory, *, report: bool) -> None:
        """Forget a tree, naming its files as gone if ``report``."""
        stack = [directory]
        while stack:
            each = stack.pop()
            each.alive = False
            self._directories.pop(each, None)
            self._recent.pop(each, None)
            if each.real_link is not None:
                self._links.discard(each.real_link)
            for name, entry in each.entries.items():
                if isinstance(entry, Directory):
                    stack.append(entry)
                elif entry is not None and report:
                    path = os.path.join(each.path, name)  # noqa: PTH118
                    self._changes.gone.add(path)
                    self._changes.seen.pop(path, None)

    def _go_on_patrol(self) -> None:
        deadline = time.perf_counter() + PATROL_S
        for steps, round_done in enumerate(self._patrol):
            if round_done or (steps >= PATROL_STEPS and time.perf_counter() > deadline):
                return
        self._patrol = self._walk_round()  # an error ended it: start again

    def _walk_round(self) -> Iterator[bool]:
        """Visit directories and re-examine files, one a step, for ever; True ends a round."""
        while True:
            for directory in list(self._directories):
                if not directory.alive:
                    continue
                self._visit(directory)
                yield False
                for name in list(directory.entries):
                    if isinstance(directory.entries.get(name), tuple):
                        self._examine_again(directory, name)
                        yield False
            yield True
