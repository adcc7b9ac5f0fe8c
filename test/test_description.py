"""Robot descriptions as users bring them: whole, broken, with meshes that are elsewhere."""

import numpy as np
import pytest
from conftest import ICUB, needs_icub

from digital_twin.core.description import load_description, parse_description
from digital_twin.core.errors import DescriptionError
from digital_twin.core.model import RobotModel

TWO_LINKS = """<robot name="two">
  <link name="base"><inertial><mass value="2"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="arm"><inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>{extra}</link>
  <joint name="j" type="{kind}"><parent link="{parent}"/><child link="arm"/><axis xyz="0 0 1"/>{limit}</joint>
</robot>"""


def two(kind="revolute", parent="base", limit='<limit lower="-1" upper="1" effort="5" velocity="2"/>', extra=""):
    return TWO_LINKS.format(kind=kind, parent=parent, limit=limit, extra=extra)


def test_the_humanoid_is_what_it_says(robot):
    d = robot.description
    assert d.name == "humanoid" and d.root == "base_link"
    assert len(d.driven_joints()) == 28
    assert d.missing_meshes == ()
    assert 50.0 <= robot.model.mass <= 60.0
    rep120 = {"base_link", "torso", "gaze"} | {
        f"{s}_{x}" for s in "lr" for x in ("wrist", "gripper", "ankle", "sole", "toe")
    }
    assert rep120 <= set(d.links)
    legs = [j for j in d.driven_joints() if any(x in j for x in ("hip", "knee", "ankle"))]
    arms = [j for j in d.driven_joints() if any(x in j for x in ("shoulder", "elbow", "wrist"))]
    waist = [j for j in d.driven_joints() if j.startswith("waist")]
    neck = [j for j in d.driven_joints() if j.startswith("neck")]
    assert (len(legs), len(arms), len(waist), len(neck)) == (12, 12, 2, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["not valid XML"]),
        ("<robot", ["not valid XML"]),
        ("<sdf/>", ["not a URDF", "<sdf>"]),
        ("<robot name='x'/>", ["no links"]),
        ("<robot><link/></robot>", ["<link> has no name"]),
        ("<robot><link name='a'/><link name='b'/></robot>", ["one root link", "a, b"]),
        (two(parent="bse"), ["joint 'j'", "unknown link 'bse'", "did you mean 'base'"]),
        (two(kind="revolut"), ["joint 'j'", "unknown type 'revolut'", "revolute"]),
        (two(kind="floating"), ["joint 'j'", "unknown type 'floating'"]),
        (two(limit='<limit lower="a" upper="1" effort="1" velocity="1"/>'), ["joint 'j'", "lower='a'", "not a number"]),
        (two(parent="arm"), ["joint 'j'", "connects link 'arm' with itself"]),
        (two().replace("</robot>", two()[two().index("<joint") :]), ["joint 'j' is there twice"]),
        (two().replace('mass value="1"', 'mass value="-1"'), ["MuJoCo"]),
    ],
)
def test_errors_name_the_bad_thing_in_one_line(text, words):
    with pytest.raises(DescriptionError) as e:
        RobotModel(parse_description(text, "robot.urdf"))
    assert "robot.urdf" in str(e.value) and "\n" not in str(e.value)
    for word in words:
        assert word in str(e.value)


def test_files_that_are_not_there_or_not_text(tmp_path):
    with pytest.raises(DescriptionError, match="cannot read the robot description"):
        load_description(tmp_path / "no.urdf")
    binary = tmp_path / "b.urdf"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DescriptionError, match="not UTF-8"):
        load_description(binary)
    broken = tmp_path / "b.urdf.xacro"
    broken.write_text('<robot xmlns:xacro="http://www.ros.org/wiki/xacro"><link name="${nothing}"/></robot>')
    with pytest.raises(DescriptionError, match=r"b.urdf.xacro: xacro: .*nothing"):
        load_description(broken)


def test_limits_that_say_nothing_are_no_limits():
    d = parse_description(two(limit='<limit lower="0" upper="0" effort="0" velocity="0"/>'))
    j = d.joints["j"]
    assert np.isinf([j.lower, j.upper, j.effort, j.velocity]).all()
    huge = parse_description(two(limit='<limit lower="-1" upper="1" effort="50000" velocity="50000"/>')).joints["j"]
    assert np.isinf([huge.effort, huge.velocity]).all() and (huge.lower, huge.upper) == (-1.0, 1.0)
    assert np.isinf(parse_description(two(kind="continuous")).joints["j"].upper)


def mesh(name):
    return f'<visual><geometry><mesh filename="{name}"/></geometry></visual>'


def test_missing_meshes_are_named_and_the_rest_works(tmp_path):
    text = two(extra=mesh("package://nowhere/arm.stl") + mesh("arm.dae"))
    (tmp_path / "arm.dae").write_text("<COLLADA/>")
    d = parse_description(text, tmp_path / "r.urdf")
    assert d.missing_meshes == ("package://nowhere/arm.stl", "arm.dae")
    assert RobotModel(d, geometry=True).mass == pytest.approx(3.0)


@pytest.mark.parametrize("uri", ["package://pkg/meshes/a.obj", "model://pkg/meshes/a.obj", "meshes/a.obj", "file://{}"])
def test_meshes_that_are_here_are_found(tmp_path, uri):
    folder = tmp_path / "pkg" / "meshes"
    folder.mkdir(parents=True)
    (folder / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n")
    d = parse_description(two(extra=mesh(uri.format(folder / "a.obj"))), tmp_path / "pkg" / "r.urdf")
    assert d.missing_meshes == ()
    assert RobotModel(d, geometry=True).mj.nmesh == 1


def test_meshes_are_found_in_installed_packages(tmp_path, monkeypatch):
    folder = tmp_path / "share" / "pkg"
    folder.mkdir(parents=True)
    (folder / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    assert parse_description(two(extra=mesh("package://pkg/a.obj")), "/elsewhere/r.urdf").missing_meshes == ()


@needs_icub
def test_icub_loads_without_its_meshes():
    d = load_description(ICUB / "icub.urdf")
    assert d.root == "base_link" and len(d.driven_joints()) == 32 and len(d.missing_meshes) == 39
    masses = [float(m.get("value")) for m in d.tree().iterfind("link/inertial/mass")]
    assert RobotModel(d).mass == pytest.approx(sum(masses), rel=1e-9)


def test_a_robot_is_the_same_wherever_its_file_lies(robot):
    """xacro begins with a comment that names the file."""
    before = parse_description(two()).sha256
    assert parse_description("<!-- from /elsewhere/two.xacro -->" + two().replace("\n", "\n\n")).sha256 == before
    assert parse_description(two(limit='<limit lower="-1" upper="1" effort="5" velocity="3"/>')).sha256 != before
    assert "/urdf/humanoid.urdf.xacro" in robot.description.urdf, "the comment that does not count"
