# SPDX-License-Identifier: Apache-2.0
"""A checker in the style of Jepsen: clients that check every byte use a cluster that is hurt meanwhile, in ways
that a printed seed chooses; then all is undone, and once the cluster is at rest every key is asked for through
every node.

What must hold (docs/decisions/0014): a get is exact or a miss; what was removed, with the remove done, never comes
back, nor does a block of another epoch; every call ends; where no node lost its memory or its state, what was
acknowledged is found again, and where one did, what was acknowledged with two copies; a pinned block stays, and stays
pinned, until its node loses its memory or its state, whatever its process goes through; and once all is well every node
refuses the last epoch but one.

Each kind of harm has a test of its own, so that a failure names its cause; one test mixes them all, for a minute in
`make check` (always with the same seed), for half an hour with YOLK_LONG=1. YOLK_SEED=N runs that seed again, YOLK_CHECKER=1
all tests, shortly.
"""
import os
import random
import shutil
import signal
import time

import pytest

import harness
from cluster_rig import LEASE_S, WORKERS, Cluster, Epochs, Lan, Load, Pins, pause

LONG = os.environ.get("YOLK_LONG") == "1"
MIX_S = 1800 if LONG else 60
QUIET_S = 1.0        # of work before and after
ROUNDS = 10 if LONG else 1

if shutil.which("etcd") is None:
    pytest.skip("etcd is missing (etcd-server)", allow_module_level=True)


# ---- harm -------------------------------------------------------------------------------------


class Harm:
    """One way to hurt a cluster, begun and undone. `node`: the one that it is about, at random."""
    loses = False     # memory or state of a node: acknowledged blocks may be gone
    expels = False    # the node may be expelled and not know it; or it is dead, and its clients read its memory yet
    starts = False    # it is undone by a start of the node
    needs_cut = False
    past_lease = (LEASE_S + 1, LEASE_S + 3)
    lasts_s = (0.3, 4)

    def __init__(self, cluster, load, rng, node):
        self.cluster, self.load, self.rng, self.node = cluster, load, rng, node
        self.apart(True)

    def may_be_expelled(self):
        return [self.node] if self.expels else []

    def apart(self, are_apart):
        for node in self.may_be_expelled():
            self.load.apart(node, are_apart)

    def begin(self):
        raise NotImplementedError

    def undo(self):
        raise NotImplementedError

    def others(self):
        return [n for n in self.cluster.nodes if n is not self.node]


class Kill(Harm):
    """kill -9 of a node; its memory's blocks are there again when it starts."""
    starts = expels = True

    def begin(self):
        self.node.signal(signal.SIGKILL)

    def undo(self):
        self.node.start()


class KillPastLease(Kill):
    lasts_s = Harm.past_lease


class KillLosingMemory(Kill):
    """As if the host had died."""
    loses = True

    def undo(self):
        for path in self.node.place.shm.glob(f"yolk-{self.node.name}.*"):
            path.unlink()
        super().undo()


class Restart(Harm):
    starts = expels = True
    lasts_s = (0, 1)

    def begin(self):
        assert self.node.stop() == 0, self.node.log()[-2000:]

    def undo(self):
        self.node.start()


class Stop(Harm):
    """SIGSTOP, past the lease."""
    expels = True
    lasts_s = Harm.past_lease

    def begin(self):
        self.node.signal(signal.SIGSTOP)

    def undo(self):
        self.node.signal(signal.SIGCONT)


class Pause(Stop):
    """SIGSTOP for less than the lease (on a busy machine more time may pass)."""
    lasts_s = (0.1, 1)


class Cut(Harm):
    """A node from some others, both ways. It stays a member: etcd hears it."""
    needs_cut = True
    lasts_s = (1, LEASE_S + 3)

    def far(self):
        return [n.host for n in self.rng.sample(self.others(), self.rng.randint(1, len(self.others())))]

    def begin(self):
        here, far = [self.node.host], self.far()
        self.cluster.lan.lose(here, far)
        self.cluster.lan.lose(far, here)

    def undo(self):
        self.cluster.lan.heal()


class CutOneWay(Cut):
    def begin(self):
        ends = [[self.node.host], self.far()]
        self.rng.shuffle(ends)
        self.cluster.lan.lose(*ends)


class CutFromEtcd(Cut):
    """It is expelled, and reaches the others all the while."""
    expels = True
    lasts_s = Harm.past_lease

    def far(self):
        return [m.host for m in self.cluster.etcd.members]


class CutFromSomeEtcd(CutFromEtcd):
    """From a part of its members. It may lose its lease before it has asked another one."""

    def far(self):
        members = super().far()
        return self.rng.sample(members, self.rng.randint(1, len(members) - 1))


class CutFromEtcdOneWay(CutFromEtcd, CutOneWay):
    """Either it does not hear etcd, or it is not heard."""


class CutOff(CutFromEtcd):
    """From everything."""

    def far(self):
        return super().far() + [n.host for n in self.others()]


class Drain(Harm):
    def begin(self):
        self.tell("--within", "0s") # the load goes on putting there: it need not come to an end

    def undo(self):
        self.tell("--off")

    def tell(self, *more):
        done = self.rng.choice(self.others()).command_line("drain", self.node.name, *more)
        # Beside other harm there may be nobody who can write it down.
        self.failed = done.stderr if done.returncode else ""


class EtcdStop(Harm):
    """SIGSTOP of all members of etcd."""
    lasts_s = Harm.past_lease

    def begin(self):
        self.cluster.etcd.signal(signal.SIGSTOP)

    def undo(self):
        self.cluster.etcd.signal(signal.SIGCONT)


class EtcdKill(Harm):
    """kill -9 of one member of etcd, maybe the leader."""

    def begin(self):
        self.member = self.rng.choice(self.cluster.etcd.members)
        self.member.signal(signal.SIGKILL)

    def undo(self):
        self.member.start()


class EtcdStopOne(EtcdKill):
    """SIGSTOP of one member, maybe the leader. Nodes that have asked that one may lose their lease."""
    lasts_s = Harm.past_lease

    def may_be_expelled(self):
        return self.cluster.nodes

    def begin(self):
        self.member = self.rng.choice(self.cluster.etcd.members)
        self.member.signal(signal.SIGSTOP)

    def undo(self):
        self.member.signal(signal.SIGCONT)


class EtcdMajority(Harm):
    """kill -9 of all members but one."""
    lasts_s = Harm.past_lease

    def begin(self):
        members = self.cluster.etcd.members
        self.killed = self.rng.sample(members, len(members) - 1)
        for member in self.killed:
            member.signal(signal.SIGKILL)

    def undo(self):
        for member in self.killed:
            member.start()


class EtcdCut(EtcdStopOne):
    """One member, maybe the leader, from the others. Nodes reach all."""
    needs_cut = True
    both_ways = True

    def begin(self):
        members = [m.host for m in self.cluster.etcd.members]
        one = [self.rng.choice(members)]
        ends = [one, [host for host in members if host not in one]]
        self.rng.shuffle(ends)
        self.cluster.lan.lose(*ends)
        if self.both_ways:
            self.cluster.lan.lose(*reversed(ends))

    def undo(self):
        self.cluster.lan.heal()


class EtcdCutOneWay(EtcdCut):
    both_ways = False


class EtcdEmpty(Harm):
    """etcd loses all that it had."""

    def begin(self):
        self.cluster.etcd.lose_everything()

    def undo(self):
        self.cluster.etcd.start()


class OldState(Harm):
    """The state directory is put back to what it was before."""
    loses = starts = expels = True
    lasts_s = (0, LEASE_S + 1)

    def __init__(self, *args):
        super().__init__(*args)
        self.node.signal(signal.SIGKILL)
        self.backup = self.node.state.with_suffix(".backup")
        shutil.rmtree(self.backup, ignore_errors=True)
        shutil.copytree(self.node.state, self.backup)
        self.node.start()

    def begin(self):
        self.node.signal(signal.SIGKILL)
        shutil.rmtree(self.node.state)
        shutil.move(self.backup, self.node.state)

    def undo(self):
        self.node.start()


class NoState(Kill):
    """The state directory is lost, the memory is not."""
    loses = True
    lasts_s = (0, LEASE_S + 1)

    def begin(self):
        super().begin()
        shutil.rmtree(self.node.state)


# One kind at a time takes a quarter of an hour: make check has the mix alone, with one seed, so that what it finds is the
# change's doing.
CHECKER = LONG or "YOLK_CHECKER" in os.environ
one_at_a_time = pytest.mark.skipif(not CHECKER, reason="one kind of harm at a time: make check-long, or YOLK_CHECKER=1")
SEED = 20

HARMS = [Kill, KillPastLease, KillLosingMemory, Restart, Stop, Pause, Cut, CutOneWay, CutFromEtcd, CutFromSomeEtcd,
         CutFromEtcdOneWay, CutOff, Drain, EtcdStop, EtcdStopOne, EtcdKill, EtcdMajority, EtcdCut, EtcdCutOneWay, EtcdEmpty,
         OldState, NoState]


# ---- runs -------------------------------------------------------------------------------------


@pytest.fixture
def seed():
    number = int(os.environ.get("YOLK_SEED") or (random.SystemRandom().randrange(1 << 30) if CHECKER else SEED))
    print(f"YOLK_SEED={number}")
    return number


class Shared:
    """A cluster that tests use one after the other, as long as they leave it at rest."""

    def __init__(self, janitor):
        self.janitor, self.place, self.cluster = janitor, None, None

    def take(self):
        if self.cluster is None:
            self.place = harness.Place(self.janitor)
            self.cluster = Cluster(self.place)
        return self.cluster

    def drop(self):
        if self.place is not None:
            self.place.close()
        self.place = self.cluster = None


@pytest.fixture(scope="module")
def shared(janitor):
    keeper = Shared(janitor)
    yield keeper
    keeper.drop()


def note(what):
    """With the time, by the clock that pool_driver says what was wrong with."""
    print(f"{time.monotonic():.3f} {what}", flush=True)


def hurt(cluster, load, harms, rng):
    """Does some harm at a time, undoes it, and waits for rest. What each is, and when, is printed. Returns the nodes that
    have lost what they had."""
    done = []
    for kind in harms: # all are made before the first begins: one may take a node down and up to prepare itself
        free = [n for n in cluster.nodes if n not in (h.node for h in done)]
        done.append(kind(cluster, load, rng, rng.choice(free)))
    for harm in done:
        note(f"{type(harm).__name__} {harm.node.name}")
        harm.begin()
        pause(rng.uniform(*harm.lasts_s))
    for harm in sorted(reversed(done), key=lambda harm: harm.starts): # nodes start where they can join
        note(f"undo {type(harm).__name__}")
        harm.undo()
        if harm.starts: # what a node that has started serves is right
            harm.apart(False)
    note("undone")
    cluster.rest()
    note("at rest")
    for harm in done:
        harm.apart(False)
    load.still_well()
    return {harm.node for harm in done if harm.loses}


def under_load(cluster, seed, workers, harm, loses):
    """What was counted while harm(load) was done, once what must be found is found. loses: one node has lost what it had;
    else harm(load) says whether one has."""
    with Load(cluster, seed, workers=workers) as load:
        pause(QUIET_S)
        loses = harm(load) or loses
        pause(QUIET_S)
    found = load.until_all_found(safe=loses)
    print(found)
    return found


SLOW_ROUNDS = 5  # more of them, where a busy machine lets little be done in one


def tells_something(hits, puts, others=11):
    return hits > 100 and puts > 10 and others > 10


@one_at_a_time
@pytest.mark.parametrize("kind", HARMS, ids=lambda kind: kind.__name__)
def test_one_harm(shared, seed, kind):
    if kind.needs_cut and not Lan.possible():
        pytest.skip("needs network namespaces and nft (root)")
    rng = random.Random(seed)
    cluster = shared.take()
    try:
        with Epochs(cluster, seed):
            seen = {"hits": 0, "puts": 0, "others": 0}
            for turn in range(ROUNDS + SLOW_ROUNDS):
                if turn >= ROUNDS and tells_something(**seen):
                    break
                found = under_load(cluster, seed, WORKERS, lambda load: hurt(cluster, load, [kind], rng), kind.loses)
                seen = {what: count + found[what] for what, count in seen.items()}
            assert tells_something(**seen), seen
    except BaseException:
        cluster.tell()
        shared.drop()
        raise


# Of pins: memory outlives its process, and what one node loses is not another's.
PIN_HARMS = [Kill, KillPastLease, KillLosingMemory, Restart, Stop, CutOff, CutFromEtcdOneWay, Drain, EtcdEmpty, OldState,
             NoState]


@one_at_a_time
@pytest.mark.parametrize("kind", PIN_HARMS, ids=lambda kind: kind.__name__)
def test_pins_hold(shared, seed, kind):
    if kind.needs_cut and not Lan.possible():
        pytest.skip("needs network namespaces and nft (root)")
    cluster = shared.take()
    try:
        with Load(cluster, seed) as load, Pins(cluster) as pins:
            pins.fill()
            pins.lost = hurt(cluster, load, [kind], random.Random(seed))
    except BaseException:
        cluster.tell()
        shared.drop()
        raise


def test_all_harm_at_random(janitor, seed):
    rng, begun = random.Random(seed), time.monotonic()
    place = harness.Place(janitor)
    kinds = [kind for kind in HARMS if not kind.needs_cut or Lan.possible()]
    cluster = pins = None
    hits = puts = 0

    def goes_on():
        return time.monotonic() - begun < MIX_S

    def harm(load):
        """Until the time is over, or a node has lost what it had: what must be found then depends on that."""
        while goes_on() and not pins.lost:
            pins.lost = hurt(cluster, load, some_kinds(), rng)
            pause(rng.uniform(0, QUIET_S))
        return bool(pins.lost)

    def some_kinds():
        """One or two, not two that lose: copies are on two nodes."""
        while True:
            some = rng.sample(kinds, rng.randint(1, 2))
            if sum(kind.loses for kind in some) < 2:
                return some

    try:
        cluster = Cluster(place, nodes=rng.randint(3, 5))
        with Epochs(cluster, seed):
            while goes_on() or not tells_something(hits, puts) and time.monotonic() - begun < 5 * MIX_S:
                with Pins(cluster) as pins:
                    found = under_load(cluster, seed, 5, harm, False)
                hits, puts = hits + found["hits"], puts + found["puts"]
        assert tells_something(hits, puts)
    except BaseException:
        if cluster is not None:
            cluster.tell()
        raise
    finally:
        place.close()
