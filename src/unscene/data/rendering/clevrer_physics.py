"""How the objects of a CLEVRER-like video move: they slide, turn, and bounce off each other, simulated with MuJoCo.

Lengths are in CLEVRER's unit, in which every object is 0.4 high and wide; times in seconds of the video.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from unscene.data.rendering.gl import import_mujoco

RADIUS = 0.2  # half the height and half the width of every object
FRAME_RATE = 25.6  # 128 frames in 5 seconds
STEPS = 40  # of the simulation per frame: 1/1024 s each, so that a collision, of 1/100 s, takes about ten
STEP = 1 / (FRAME_RATE * STEPS)
GRAVITY = 9.81
# As VRDP has them, whose second has 35 frames: friction 0.03 (25.6 / 35)^2, and drag 0.06 v^2 at v = 1.3. Its spheres
# roll, so they meet no friction; here they glide instead, which looks the same.
FRICTION = {"cube": 0.016, "sphere": 0.0, "cylinder": 0.016}  # with the floor
DRAG = 0.08  # the share of their speed that objects lose per second
RESTITUTION, COLLISION = 0.64, 0.01  # of a collision: relative speed after over that before, and how long it takes
# What stays upright on the floor meets others at half its height, where a cylinder is as wide as a sphere; MuJoCo's
# cylinders sometimes meet cubes at a wrong angle, and both spin like tops.
GEOMETRY = {
    "cube": f'type="box" size="{RADIUS} {RADIUS} {RADIUS}"',
    "sphere": f'type="sphere" size="{RADIUS}"',
    "cylinder": f'type="sphere" size="{RADIUS}"',
}
# along x, y, z and around z; nothing tips over, and what is so slow in z does not tremble on the elastic floor
JOINTS = (("slide", "1 0 0", DRAG), ("slide", "0 1 0", DRAG), ("slide", "0 0 1", 1e6), ("hinge", "0 0 1", 0.0))
APART = 4 * STEPS  # steps without contact after which two objects meet anew


class Contact(NamedTuple):
    """Two objects meet: the first frame in which or before which they touch, their numbers from 0, and where."""

    frame: int
    first: int
    second: int
    location: Float[np.ndarray, " 3"]


@dataclass(frozen=True)
class Tracks:
    """Where n objects are in T frames, how fast, and how they are turned around the vertical, in radians."""

    location: Float[np.ndarray, "n T 3"]
    velocity: Float[np.ndarray, "n T 3"]
    angle: Float[np.ndarray, "n T"]
    spin: Float[np.ndarray, "n T"]  # radians per second
    contacts: list[Contact]  # one per encounter, in the order of time


def simulate(
    shapes: Sequence[str],
    position: Float[np.ndarray, "n 2"],
    velocity: Float[np.ndarray, "n 2"],
    angle: Float[np.ndarray, " n"],
    frames: int,
) -> Tracks:
    """What objects of mass 1 on the floor do, which begin like this; ``shapes`` are cube, sphere or cylinder.

    The same start gives the same tracks on the same version of MuJoCo. Raises InputError where MuJoCo is missing.
    """
    mujoco = import_mujoco()
    model = mujoco.MjModel.from_xml_string(_world(shapes))
    data = mujoco.MjData(model)
    state, speed = (values.reshape(len(shapes), len(JOINTS)) for values in (data.qpos, data.qvel))  # views
    state[:, :2], state[:, 3], speed[:, :2] = position, angle, velocity
    states, speeds, contacts = [], [], []
    met: dict[tuple[int, int], int] = {}  # when each pair last touched, in steps
    for step in range((frames - 1) * STEPS + 1):
        if step % STEPS == 0:
            states.append(state.copy())
            speeds.append(speed.copy())
        mujoco.mj_step(model, data)  # finds the contacts before it moves anything
        for pair, location in _touching(data).items():
            if pair not in met or step - met[pair] > APART:
                contacts.append(Contact(math.ceil(step / STEPS), *pair, location))
            met[pair] = step
    where, how_fast = np.stack(states, axis=1), np.stack(speeds, axis=1)  # (n, T, 4)
    location, motion = where[..., :3] + (0, 0, RADIUS), how_fast[..., :3]
    return Tracks(location, motion, where[..., 3], how_fast[..., 3], contacts)


def earlier(
    speed: Float[np.ndarray, " n"], seconds: Float[np.ndarray, " n"], friction: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """How far away an object was ``seconds`` before it had this speed, and how fast, if it met nothing."""
    brake = friction * GRAVITY / DRAG  # dv/dt = -DRAG (v + brake)
    growth = np.expm1(DRAG * seconds)
    return (speed + brake) * growth / DRAG - brake * seconds, speed + (speed + brake) * growth


def _touching(data: Any) -> dict[tuple[int, int], np.ndarray]:
    """Where pairs of objects touch, the middle of their points of contact."""
    pairs = np.sort(data.contact.geom, axis=1) - 1  # geom 0 is the floor
    found = {(int(first), int(second)) for first, second in pairs[pairs[:, 0] >= 0]}
    return {pair: data.contact.pos[(pairs == pair).all(1)].mean(0) for pair in sorted(found)}


def _world(shapes: Sequence[str]) -> str:
    """MuJoCo's description of a floor and objects at the origin."""
    bodies = "".join(_body(shape) for shape in shapes)
    stiffness, damping = _spring()
    return f"""
    <mujoco>
      <option timestep="{STEP}" gravity="0 0 {-GRAVITY}" cone="elliptic" integrator="implicitfast"/>
      <default><geom solref="{-stiffness} {-damping}" solimp="0.99 0.99 0.001" friction="0 0 0"/></default>
      <worldbody><geom type="plane" size="0 0 1"/>{bodies}</worldbody>
    </mujoco>"""


def _body(shape: str) -> str:
    joints = "".join(f'<joint type="{kind}" axis="{axis}" damping="{drag}"/>' for kind, axis, drag in JOINTS)
    # of two surfaces the larger friction counts: the object's on the floor, which has none itself
    geom = f'<geom {GEOMETRY[shape]} mass="1" friction="{FRICTION[shape]} 0 0"/>'
    return f'<body pos="0 0 {RADIUS}">{joints}{geom}</body>'


def _spring() -> tuple[float, float]:
    """Stiffness and damping, per mass, of the contact that gives RESTITUTION within COLLISION.

    A damped spring swings for half a period and loses exp(-pi z / sqrt(1 - z^2)) of its speed, z its damping ratio.
    """
    loss = -math.log(RESTITUTION)
    ratio = loss / math.hypot(math.pi, loss)
    frequency = math.pi / COLLISION / math.sqrt(1 - ratio**2)
    return frequency**2, 2 * ratio * frequency
