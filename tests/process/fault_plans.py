"""What happens in each kind of case of faults.py, and what must come of it.  A plan is a function of a run, the
rank that is the victim, and what the table gives it besides."""

import os
import resource
import signal
import time

from fault_run import CLOSED_MS, SHORT_S, SILENT_MS, check, now_us

# What a failpoint does to make the fault.
ACTIONS = {"kill": "die", "stop_short": "stop", "stop_long": "stop", "reset": "reset", "half_close": "half_close",
           "truncated": "truncate", "corrupt_header": "corrupt_header", "corrupt_payload": "corrupt_payload",
           "stale": "stale", "no_memory": "no_memory"}
BROKEN_LINK = "reset", "half_close", "truncated"
BAD_BYTES = "corrupt_header", "corrupt_payload", "stale"
# Every rank sends to the next one only, so that what is hit at a certain frame is known.
BY_RING = {"TUTTI_ALGORITHM": ",".join(f"{operation}:ring" for operation in (
    "all_reduce", "broadcast", "all_gather", "gather", "reduce_scatter", "barrier"))}
# Each rank needs a link to every other in the first all_reduce: the third hello is the first beyond the ring.
BEYOND_THE_RING = {"TUTTI_ALGORITHM": "all_reduce:direct"}
NOT_FORMED = "TIMEOUT", "PEER_LOST", "ABORTED"
EXHAUSTED_MS = 1000 + 2 * CLOSED_MS  # a rank waits a second for descriptors
LOST_MS = 3000 + CLOSED_MS  # until those whose rendezvous died with its process are told so
# A group that does not come about: the time-out given for joining, the least that wiring is given, and how much
# later than the rendezvous a member gives up by itself.
JOIN_S = 2
FORMING_MS = JOIN_S * 1000 + 5000 + 2000 + CLOSED_MS


def failpoint(point, fault):
    name, _, hit = point.partition("@")
    return {"TUTTI_FAILPOINTS": f"{name}={ACTIONS[fault]}@{hit or 1}"}


def of_accept(run, victim, point):
    """The failpoint at an accepted connection, where it is counted as in a group without shared memory; to set that up,
    every rank but the first accepts one connection more."""
    name, _, hit = point.partition("@")
    more = name == "accept" and run.transport["shares_memory"] and victim != 0
    return f"{name}@{int(hit) + 1}" if more else point


def neighbours(run, victim):
    return {(victim + 1) % run.size, (victim - 1) % run.size}


def wake(member):
    time.sleep(SHORT_S)  # the fault itself: so long it is silent
    member.signal(signal.SIGCONT)


def go_on(run, mode):
    """Lets a healthy group come to its end."""
    if mode == "loop":
        run.members[0].tell("go")
    elif mode == "idle":
        for member in run.members:
            member.tell("go")


def finish(run, members, at_most=()):
    """After they have re-formed: to the end, with right results; who was refused gives up."""
    for member in at_most:
        if not member.has("reformed"):
            member.tell("end")
            check(member.status() == 3, f"rank {member.rank} should have ended with 3")
    run.expect_done([*members, *[member for member in at_most if member.has("reformed")]])


# ---- Connecting --------------------------------------------------------------------------------------


def forming(run, victim, fault, point):
    """A rank is hurt while the group forms, at a failpoint."""
    own = {victim: ((), failpoint(point, fault))}
    times = {"TUTTI_JOIN_TIMEOUT": f"{JOIN_S}s"} if fault != "stop_short" else {}
    members = run.start_all("loop", own, "--reform-timeout", 4000, **times)
    hurt = members[victim]
    if fault != "kill":
        hurt.await_stopped()
    if fault == "stop_short":
        wake(hurt)
        for member in members:
            member.wait("looping")
        go_on(run, "loop")
        run.expect_results(members)
        return
    others = run.others(hurt)
    # The failed call began when the rank was started, before the fault.
    run.expect_failures(others, {victim}, NOT_FORMED, FORMING_MS)
    ranked = [member for member in others if member.wait("failed")["assigned"] != "-1"]
    if ranked:  # they were a group already, though not all were connected
        run.expect_last_reform(ranked)
    for member in others:
        check(member in ranked or member.status() == 3, f"rank {member.rank} should have ended with 3")
    if fault == "kill":
        run.expect_killed(hurt)
        return
    hurt.signal(signal.SIGCONT)
    hurt.wait("failed")
    hurt.tell("end")
    check(hurt.status() == 3, "the rank that had been stopped cannot have a group")


def late_rank(run, victim, harm):
    """The victim loses its connection to the rendezvous while a rank is missing, and comes again."""
    late = (victim + 1) % run.size
    for rank in range(run.size):
        if rank != late:
            run.start(rank, "loop")
    hurt = next(member for member in run.members if member.rank == victim)
    hurt.wait_until("still waiting")
    hurt.order(f"{harm}_rendezvous")
    run.start(late, "loop")
    for member in run.members:
        member.wait("looping")
    run.members[0].tell("go")
    run.expect_results(run.members)


def no_descriptor_to_accept(run, victim):
    """The victim is short of descriptors for a moment, just when its neighbour connects."""
    members = run.start_all("loop", {victim: ((), {"TUTTI_FAILPOINTS": "accept=no_descriptors"})})
    for member in members:
        member.wait("looping")
    go_on(run, "loop")
    run.expect_results(members)


def no_descriptors_at_all(run, victim):
    """The victim may open so few descriptors that it cannot join; it says so, and the others name it."""
    for rank in range(run.size):
        wrapper = ("sh", "-c", 'ulimit -n 8; exec "$@"', "sh") if rank == victim else ()
        run.start(rank, "loop", wrapper=wrapper, TUTTI_JOIN_TIMEOUT=f"{JOIN_S}s")
    hurt = run.members[victim]
    failure = hurt.wait("failed")
    check("descriptor" in failure["message"] or "open files" in failure["message"], f"why? {failure}")
    check(hurt.status() == 3, "the victim should have ended with 3")
    run.expect_failures(run.others(hurt), {victim}, NOT_FORMED, FORMING_MS)
    for member in run.others(hurt):
        check(member.status() == 3, f"rank {member.rank} should have ended with 3")


# ---- In a group: in an operation, idle, finalizing ---------------------------------------------------


def hurt_group(run, victim, fault, mode, way, environment):
    """Does it: by a signal, to all connections of the victim, or at a failpoint.  The time, where it is known."""
    own = {victim: (("--hold", "finalize") if mode == "finalize" and "@" not in way else (),
                    failpoint(way, fault) if "@" in way else {})}
    times = {"TUTTI_HEARTBEAT": "1s", "TUTTI_DEAD_AFTER": "5s"} if way == "signal_default_times" else {}
    members = run.start_all(mode, own, TUTTI_CHECKSUM=int(fault == "corrupt_payload"), **times, **environment)
    hurt = members[victim]
    if "@" in way:
        if ACTIONS[fault] == "stop":
            hurt.await_stopped()
        return None
    for member in members:
        member.wait({"loop": "looping", "idle": "idle", "finalize": "finalizing"}[mode])
    if mode == "finalize":
        hurt.wait("holding")
    since_us = now_us()
    if way == "connections":
        hurt.order(fault)
    else:
        hurt.signal(signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
    if way == "connections" and mode == "finalize":
        hurt.tell("go")
    return since_us


def in_group(run, victim, fault, mode, way, beyond_the_ring=False):
    environment = BEYOND_THE_RING if beyond_the_ring else {}
    if way.startswith("frame_sent") and (fault in BROKEN_LINK or run.transport["shares_memory"]):
        environment = BY_RING
    way = of_accept(run, victim, way)
    since_us = hurt_group(run, victim, fault, mode, way, environment)
    hurt = run.members[victim]
    others = run.others(hurt)
    if fault == "stop_short":
        wake(hurt)
        go_on(run, mode)
        if mode == "finalize":
            hurt.tell("go")
        run.expect_results(run.members)
    elif fault in BAD_BYTES or fault == "no_memory":
        status = "MEMORY" if fault == "no_memory" else "PROTOCOL"
        run.expect_failures(run.members, {victim}, [status], CLOSED_MS, since_us)
        run.expect_reformed(run.members, causes={victim})
        finish(run, run.members)
    elif fault in BROKEN_LINK:
        # Whoever is at an end of what broke may blame the other, and who is blamed is not waited for.
        blamed = {victim} | (neighbours(run, victim) if way == "connections" else {(victim + 1) % run.size})
        run.expect_failures(run.members, blamed, ["PEER_LOST"], CLOSED_MS, since_us)
        sure = [member for member in run.members if member.rank not in blamed]
        run.expect_reformed(sure, run.others(*sure), causes=blamed)
        finish(run, sure, run.others(*sure))
    else:
        limit_ms = CLOSED_MS if fault == "kill" else 6000 if way == "signal_default_times" else SILENT_MS
        run.expect_failures(others, {victim}, ["PEER_LOST"], limit_ms, since_us)
        run.expect_reformed(others, causes={victim})
        finish(run, others)
        if fault == "kill":
            run.expect_killed(hurt)
        else:
            hurt.signal(signal.SIGCONT)
            hurt.tell("go")  # where it holds
            run.expect_refused(hurt)


def leaving(run, victim, fault, point):
    """The victim is hurt between the last barrier and its end.  All have the results of all operations, so whoever
    has heard the goodbyes of its neighbours may end well; the others name the victim and re-form."""
    members = run.start_all("finalize", {victim: ((), failpoint(point, fault))})
    hurt = members[victim]
    if fault != "kill":
        hurt.await_stopped()
    if fault == "stop_short":
        wake(hurt)
        run.expect_results(members)
        return
    others = run.others(hurt)
    ends = {member: member.wait("failed|done")["event"] for member in others}
    failed = [member for member in others if ends[member] == "failed"]
    if point == "barrier_done":
        check({member.rank for member in failed} >= neighbours(run, victim), "a neighbour did not miss the goodbye")
    else:
        check(not failed, "the victim had said goodbye to all")
    if failed:
        run.expect_failures(failed, {victim}, ["PEER_LOST"], CLOSED_MS if fault == "kill" else SILENT_MS)
        run.expect_reformed(failed, causes={victim})
    finish(run, others)
    if fault == "kill":
        run.expect_killed(hurt)
        return
    hurt.signal(signal.SIGCONT)
    # The goodbyes of its neighbours may be waiting for it.
    if hurt.wait("failed|done")["event"] == "failed":
        run.expect_refused(hurt)


def full_descriptors(run, victim, mode):
    """A group that runs opens nothing, once it has the links that it needs: it does not notice that a rank has no
    descriptor left."""
    members = run.start_all(mode, {victim: (("--hold", "finalize"), {}) if mode == "finalize" else ((), {})},
                            **(BY_RING if mode == "finalize" and not run.transport["shares_memory"] else {}))
    for member in members:
        member.wait({"loop": "looping", "idle": "idle", "finalize": "finalizing"}[mode])
    if mode == "finalize":
        members[victim].wait("holding")
    members[victim].order("hog")
    go_on(run, mode)
    if mode == "finalize":
        members[victim].tell("go")
    run.expect_results(members)


def no_descriptor_beyond_the_ring(run, victim, way):
    """The victim has no descriptor left when a barrier, which is the first call, needs links beyond the ring: to dial
    others, or to accept them."""
    holding = [victim] if way == "dial" else range(run.size)
    members = run.start_all("barrier", {rank: (("--hold", "barrier"), {}) for rank in holding},
                            TUTTI_ALGORITHM="barrier:dissemination")
    for rank in holding:
        members[rank].wait("holding")
    hurt = members[victim]
    hurt.order("hog")
    since_us = now_us()
    for rank in holding:
        if way == "dial" or rank != victim:
            members[rank].tell("go")
    others = run.others(hurt)
    run.expect_failures(others, {victim}, ["SYSTEM"], EXHAUSTED_MS, since_us)
    hurt.signal(signal.SIGKILL)  # else it would have to come without a descriptor
    run.expect_last_reform(others)
    run.expect_killed(hurt)


# ---- Re-forming --------------------------------------------------------------------------------------


def after_a_death(run, victim, own=None, late=False, options=()):
    """A rank dies, so that the others re-form, and the victim with them.  With `late` one of them does not come
    before it is told to go.  (the one that died, those that re-form without victim and late, the late one)"""
    dead, slow = (victim + 3) % run.size, (victim + 1) % run.size
    changes = {victim: own or ((), {})}
    if late:
        changes[slow] = (("--hold", "reform"), {})
    # Without shared memory by ring, so that hellos are those of rings only.
    members = run.start_all("loop", changes, *options, **({} if run.transport["shares_memory"] else BY_RING))
    for member in members:
        member.wait("looping")
    members[dead].signal(signal.SIGKILL)
    others = run.others(members[dead], members[victim], *([members[slow]] if late else []))
    return members[dead], others, members[slow]


def dying_twice(run, victim, point):
    """While the group re-forms, one more dies, at a failpoint."""
    late = point == "reform_sent"
    own = (), failpoint(point, "kill")
    dead, others, slow = after_a_death(run, victim, own, late)
    run.expect_killed(run.members[victim])
    if late:
        slow.tell("go")
        others = others + [slow]
    run.expect_failures(others, {dead.rank, victim}, ["PEER_LOST"], CLOSED_MS, dead.hurt_us)
    run.expect_last_reform(others)


def stopped_while_reforming(run, victim, fault, point):
    options = ("--reform-timeout", 4000) if fault == "stop_long" else ()
    own = (), failpoint(point, fault)
    dead, others, _ = after_a_death(run, victim, own, options=options)
    hurt = run.members[victim]
    hurt.await_stopped()
    run.expect_failures(others, {dead.rank}, ["PEER_LOST"], CLOSED_MS, dead.hurt_us)
    if fault == "stop_short":
        wake(hurt)
        run.expect_reformed(others + [hurt], causes={dead.rank})
        finish(run, others + [hurt])
        return
    run.expect_last_reform(others)
    hurt.signal(signal.SIGCONT)
    tries = 1
    end = hurt.wait("reform_failed")
    while end["assigned"] != "-1":  # a group that died at birth; it tries again by itself
        tries += 1
        end = hurt.wait("reform_failed", tries)
    check(end["status"] == "TUTTI_ERR_REFUSED", f"the rank that had been stopped came back from the dead: {end}")
    hurt.tell("end")
    check(hurt.status() == 3, "the rank that had been stopped should have ended with 3")


def rejoining(run, victim, harm):
    """The victim loses its connection to the rendezvous while it waits for the others, and comes again."""
    dead, others, slow = after_a_death(run, victim, late=True)
    hurt = run.members[victim]
    run.expect_failures([*others, hurt, slow], {dead.rank}, ["PEER_LOST"], CLOSED_MS, dead.hurt_us)
    hurt.wait_until("still waiting")
    hurt.order(f"{harm}_rendezvous")
    slow.tell("go")
    run.expect_reformed([*others, hurt, slow], causes={dead.rank})
    finish(run, [*others, hurt, slow])


def no_descriptor_to_reform(run, victim):
    """The victim cannot come for lack of descriptors, says so, and comes when it has some."""
    dead, others, _ = after_a_death(run, victim, (("--hold", "reform"), {}))
    hurt = run.members[victim]
    hurt.wait("holding")
    hurt.order("hog")
    hurt.tell("go")
    failure = hurt.wait("reform_failed")
    check("open files" in failure["message"] or "descriptor" in failure["message"], f"why? {failure}")
    hurt.order("release")
    hurt.tell("go")
    run.expect_failures([*others, hurt], {dead.rank}, ["PEER_LOST"], CLOSED_MS, dead.hurt_us)
    run.expect_last_reform([*others, hurt])


# ---- The rendezvous, a process of its own ------------------------------------------------------------


def hurt_rendezvous(run, fault):
    """To be followed by mend_rendezvous()."""
    if fault == "kill":
        run.service.kill()
    elif fault.startswith("stop"):
        os.kill(run.service.pid, signal.SIGSTOP)
    elif fault == "descriptors":
        open_now = len(os.listdir(f"/proc/{run.service.pid}/fd"))
        run.descriptor_limit = resource.prlimit(run.service.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(run.service.pid, resource.RLIMIT_NOFILE, (open_now + 1, run.descriptor_limit[1]))
    else:
        for member in run.members:
            if member.process.child.poll() is None:
                member.order(f"{fault}_rendezvous")


def mend_rendezvous(run, fault):
    if fault == "kill":
        run.serve()
    elif fault.startswith("stop"):
        os.kill(run.service.pid, signal.SIGCONT)
    elif fault == "descriptors":
        resource.prlimit(run.service.pid, resource.RLIMIT_NOFILE, run.descriptor_limit)


def rendezvous_while_forming(run, _, fault):
    if fault == "descriptors":
        hurt_rendezvous(run, fault)
    for rank in range(run.size - 1):
        run.start(rank, "loop", TUTTI_JOIN_TIMEOUT=f"{JOIN_S}s" if fault == "stop_long" else "15s")
    if fault != "descriptors":
        run.members[0].wait_until("still waiting")
        hurt_rendezvous(run, fault)
    if fault == "stop_long":
        for member in run.members:
            failure = member.wait("failed")
            check(failure["status"] in ("TUTTI_ERR_TIMEOUT", "TUTTI_ERR_UNREACHABLE"), f"{failure}")
            check(int(failure["ms"]) <= FORMING_MS, f"it took too long: {failure}")
            check(member.status() == 3, f"rank {member.rank} should have ended with 3")
        return
    run.start(run.size - 1, "loop")
    if fault == "stop_short":
        time.sleep(SHORT_S)  # the fault itself
    if fault != "kill":  # rank 0 serves where nobody does
        mend_rendezvous(run, fault)
    for member in run.members:
        member.wait("looping")
    go_on(run, "loop")
    run.expect_results(run.members)


def rendezvous_of_a_running_group(run, _, fault, mode):
    """Nobody notices."""
    members = run.start_all(mode, {0: (("--hold", "finalize") if mode == "finalize" else (), {})})
    for member in members:
        member.wait({"loop": "looping", "idle": "idle", "finalize": "finalizing"}[mode])
    if mode == "finalize":
        members[0].wait("holding")
    hurt_rendezvous(run, fault)
    if fault.startswith("stop"):
        time.sleep(SHORT_S if fault == "stop_short" else SILENT_MS / 1000)  # the fault itself
    if fault == "stop_short":
        mend_rendezvous(run, fault)
    go_on(run, mode)
    if mode == "finalize":
        members[0].tell("go")
    run.expect_results(members)


def rendezvous_lost_before_a_death(run, _, mode):
    """The survivors still name the one that died; they cannot re-form until somebody serves again."""
    members = run.start_all(mode)
    for member in members:
        member.wait("looping" if mode == "loop" else "idle")
    hurt_rendezvous(run, "kill")
    members[2].signal(signal.SIGKILL)
    others = run.others(members[2])
    run.expect_failures(others, {2}, ["PEER_LOST"], CLOSED_MS, members[2].hurt_us)
    expect_unreachable(others, 16000)
    mend_rendezvous(run, "kill")
    for member in others:
        member.tell("go")
    run.expect_last_reform(others)


def expect_unreachable(members, limit_ms):
    for member in members:
        failure = member.wait("reform_failed")
        check(failure["status"] == "TUTTI_ERR_UNREACHABLE", f"rank {member.rank}: {failure}")
        check("tutti rendezvous" in failure["message"], f"it does not say what to run: {failure}")
        check(int(failure["ms"]) <= limit_ms, f"it took too long: {failure}")


def rendezvous_while_reforming(run, _, fault):
    """It is hurt while three wait for the fourth; then mended.  Where time ran out they try again."""
    options = ("--reform-timeout", 2000) if fault == "stop_long" else ()
    dead, others, slow = after_a_death(run, 2, late=True, options=options)
    others = [*others, run.members[2]]
    run.expect_failures([*others, slow], {dead.rank}, ["PEER_LOST"], CLOSED_MS, dead.hurt_us)
    if fault == "descriptors":  # those that come are at the limit, and the last must wait outside
        hurt_rendezvous(run, fault)
    for member in others:
        if fault != "descriptors":
            member.wait_until("still waiting")
    if fault != "descriptors":
        hurt_rendezvous(run, fault)
    slow.tell("go")
    if fault == "stop_long":
        for member in [*others, slow]:
            failure = member.wait("reform_failed")
            check(failure["status"] in ("TUTTI_ERR_TIMEOUT", "TUTTI_ERR_UNREACHABLE"), f"{failure}")
            check(int(failure["ms"]) <= 2000 + 2000 + CLOSED_MS, f"it took too long: {failure}")
    elif fault == "stop_short":
        time.sleep(SHORT_S)  # the fault itself
    mend_rendezvous(run, fault)
    ends = {member: member.wait("reformed|reform_failed")["event"] for member in [*others, slow]}
    for member, event in ends.items():
        if event == "reform_failed":
            member.tell("go")
    run.expect_last_reform([*others, slow])


# ---- The rendezvous in rank 0 ------------------------------------------------------------------------


def embedded_dies(run, _, mode, at_path=False):
    """The others name rank 0.  Where the kernel lets only one of them have its address, that one serves in its
    place; else they are told at once that nobody can re-form them."""
    if at_path:
        run.address = f"unix:{run.folder.name}/meet"
    own = {0: (("--hold", "finalize") if mode == "finalize" else (), {})}
    members = run.start_all(mode, own)
    for member in members:
        member.wait({"loop": "looping", "idle": "idle", "finalize": "finalizing"}[mode])
    members[0].signal(signal.SIGKILL)
    others = run.others(members[0])
    run.expect_failures(others, {0}, ["PEER_LOST"], CLOSED_MS, members[0].hurt_us)
    if not at_path:
        run.expect_reformed(others, causes={0})
        finish(run, others)
        return
    expect_unreachable(others, LOST_MS)
    for member in others:
        member.tell("end")
        check(member.status() == 3, f"rank {member.rank} should have ended with 3")


def embedded_stops(run, _, mode):
    """As if it had died, but that nobody can know: it takes the time-out of the re-form."""
    members = run.start_all(mode, None, "--reform-timeout", 3000)
    for member in members:
        member.wait("looping" if mode == "loop" else "idle")
    members[0].signal(signal.SIGSTOP)
    others = run.others(members[0])
    run.expect_failures(others, {0}, ["PEER_LOST"], SILENT_MS, members[0].hurt_us)
    for member in others:
        failure = member.wait("reform_failed")
        check(failure["status"] in ("TUTTI_ERR_TIMEOUT", "TUTTI_ERR_UNREACHABLE"), f"{failure}")
        check(int(failure["ms"]) <= 3000 + 2000 + CLOSED_MS, f"it took too long: {failure}")
        member.tell("end")
        check(member.status() == 3, f"rank {member.rank} should have ended with 3")
    members[0].signal(signal.SIGCONT)
    check(int(members[0].wait("failed")["rank"]) == 0, "it should name itself")
    members[0].tell("end")
    check(members[0].status() in (0, 3), "alone it may re-form or not, but must end")


def embedded_lives(run, _, mode):
    """Another rank dies, and rank 0 serves the survivors."""
    members = run.start_all(mode)
    for member in members:
        member.wait("looping" if mode == "loop" else "idle")
    members[2].signal(signal.SIGKILL)
    others = run.others(members[2])
    run.expect_failures(others, {2}, ["PEER_LOST"], CLOSED_MS, members[2].hurt_us)
    run.expect_reformed(others, causes={2})
    finish(run, others)
