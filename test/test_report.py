"""Reports, comparisons and tables: known truth recovered, sections that appear with their topics, pages that hold together."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ICUB, REPOSITORY, needs_icub
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import WrenchStamped
from nav_msgs.msg import Odometry
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray, Int64MultiArray, MultiArrayDimension
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from digital_twin.bags import Bag
from digital_twin.cli.main import main
from digital_twin.core.errors import ConfigError, TwinError
from digital_twin.recording.analysis import analyse
from digital_twin.recording.compare import compare
from digital_twin.recording.export import export
from digital_twin.recording.folder import RecordingConfig
from digital_twin.recording.gather import gather
from digital_twin.recording.recording import Recording
from digital_twin.recording.report_page import page
from digital_twin.recording.series import compare_means, effective_size, holm, thin
from digital_twin.recording.tables import read_tables
from digital_twin.recording.verdict import verdict
from digital_twin.ros.cdr import DoublesCodec, JointStateCodec

T0 = 1_700_000_000 * 10**9
JOINTS = ("a", "b")
HZ, SECONDS = 100, 20


def ar1(rng, n, rho, scale=1.0):
    x = np.empty(n)
    x[0] = rng.normal()
    for k in range(1, n):
        x[k] = rho * x[k - 1] + np.sqrt(1 - rho**2) * rng.normal()
    return scale * x


class Maker:
    """A recording of a made-up run whose every figure is known. Positions q = sin(t), commands behind by `lag` rad."""

    def __init__(self, path, error=0.002, drift=0.1, seed=0, without=(), gap=None):
        self.r = Recording(path, RecordingConfig(min_free=0.0, keep=0.0), {"robot": "made_up", "model": "abc"})
        self.numbers, self.without = {}, without
        rng = np.random.default_rng(seed)
        joints, odometry = JointStateCodec(JointState).writer(JOINTS), DoublesCodec(Odometry, 85, child_frame=True)
        virtual, true = odometry.writer("odom", "base"), odometry.writer("map", "base")
        noise = np.abs(ar1(rng, HZ * SECONDS, 0.9, error))
        for k in range(HZ * SECONDS):
            if gap and gap[0] < k < gap[1]:
                continue
            t = k / HZ
            ns = T0 + k * (10**9 // HZ)
            q = np.array([np.sin(t), 0.5 * np.cos(t)])
            qd = np.array([np.cos(t), -0.5 * np.sin(t)])
            self.send("joint_states", JointState, ns, joints.write(ns, q, qd, np.array([2.0, 0.0])))
            self.send("joint_commands", JointState, ns, joints.write(ns, q + 0.01))
            self.send("virtual/joint_states", JointState, ns + 1_500_000, joints.write(ns, q + noise[k]))
            self.send("ground_truth/joint_states", JointState, ns, joints.write(ns, q))
            pose = np.zeros(85)
            pose[0], pose[2], pose[6] = 0.1 * t, 0.8, 1.0
            self.send("ground_truth/odom", Odometry, ns, true.write(ns, pose))
            pose[1] = drift * t / SECONDS
            self.send("virtual/odom", Odometry, ns, virtual.write(ns, pose))
            if k % 50 == 0:
                arrivals = [x for i in range(50) for x in (ns + i * 10**7, ns + i * 10**7)]
                self.send(
                    "twin/arrivals", Int64MultiArray, ns, bytes(serialize_message(Int64MultiArray(data=arrivals)))
                )
                self.status(k, ns)
            if k % 20 == 0:
                self.forecast(t, ns)
        self.r.close()

    def send(self, topic, kind, ns, data):
        if topic.startswith(self.without):
            return
        if topic not in self.numbers:
            self.numbers[topic] = self.r.declare(f"/{topic}", f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}")
        self.r.add(self.numbers[topic], ns, data)

    def status(self, k, ns):
        level, words = (2, f"out of step: {k} cm") if 500 <= k < 1000 else (0, "")
        values = [KeyValue(key="rejected/joint_states/duplicate", value=str(k // 50))]
        m = DiagnosticArray(
            status=[DiagnosticStatus(level=bytes([level]), name="twin_synchronizer", message=words, values=values)]
        )
        self.send("twin/sync_status", DiagnosticArray, ns, bytes(serialize_message(m)))
        drift = (1 if k >= 1500 else 0, "l_knee: friction" if k >= 1500 else "")
        m = DiagnosticArray(status=[DiagnosticStatus(level=bytes([drift[0]]), name="drift_monitor", message=drift[1])])
        self.send("twin/drift", DiagnosticArray, ns, bytes(serialize_message(m)))
        m = Float64MultiArray(data=[ns // 10**9, ns % 10**9, 0.1, 0.2])
        m.layout.dim = [MultiArrayDimension(label="stamp_sec,stamp_nanosec,skill/a,spread/a", size=4, stride=4)]
        self.send("virtual/prediction/skill", Float64MultiArray, ns, bytes(serialize_message(m)))

    def forecast(self, t, ns):
        """Right up to 3 mrad."""
        m = JointTrajectory(joint_names=["b", "a"])
        m.header.stamp.sec, m.header.stamp.nanosec = divmod(ns, 10**9)
        for h in np.arange(0.05, 1.01, 0.05):
            p = JointTrajectoryPoint(positions=[0.5 * np.cos(t + h) + 0.003, np.sin(t + h) - 0.003])
            p.time_from_start.sec, p.time_from_start.nanosec = divmod(round(h * 1e9), 10**9)
            m.points.append(p)
        self.send("virtual/prediction/joint_trajectory", JointTrajectory, ns, bytes(serialize_message(m)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "run"
    Maker(path)
    return path


def test_known_figures_are_recovered(made):
    a = analyse(gather(str(made)))
    n = a.numbers
    assert n["tracking"]["command_error_rad"]["rms"] == pytest.approx(0.01, rel=1e-3)
    assert n["estimation"]["joints_rad"]["rms"] == pytest.approx(0.002, rel=0.15)
    base = n["estimation"]["base"]
    # A drift that grows to D: its RMS is D / √3.
    assert base["position_end_m"] == pytest.approx(0.1, rel=0.01) and base["position_rms_m"] == pytest.approx(
        0.1 / 3**0.5, rel=0.01
    )
    assert base["distance_m"] == pytest.approx(2.0, rel=0.01) and base["attitude_rms_deg"] == pytest.approx(
        0.0, abs=1e-6
    )
    assert n["latency"]["p50_ms"] == pytest.approx(1.5, abs=1e-6)
    # Torque 2 at speed cos t: the work done is 2 ∫ max(cos t, 0) dt, which is 4 for each whole turn.
    whole = 2 * np.maximum(np.cos(np.arange(0, SECONDS, 1e-4)), 0).sum() * 1e-4
    assert n["energy"]["work_j"] == pytest.approx(whole, rel=0.01) and n["energy"]["busiest_joint"] == "a"
    assert n["quality"]["rejected"] == {"twin_synchronizer: joint_states/duplicate": 39}
    row = next(t for t in n["quality"]["topics"] if t["topic"] == "joint_states")
    assert row["messages"] == 2000 and row["rate_hz"] == pytest.approx(100, rel=1e-3) and row["gaps"] == 0


def test_forecasts_are_judged_by_what_came(made):
    a = analyse(gather(str(made)))
    rows = {r["horizon_s"]: r for r in a.numbers["forecast"]["by_horizon"]}
    assert set(rows) == {0.1, 0.25, 0.5, 1.0}
    for h, r in rows.items():
        assert r["rmse_rad"] == pytest.approx(0.003, rel=0.02), h
        # Nothing moves: sin(t + h) − sin t has the mean square 1 − cos h; the other joint a quarter of it.
        assert r["persistence_rad"] == pytest.approx(np.sqrt(0.625 * (1 - np.cos(h))), rel=0.1), h
        assert r["skill"] == pytest.approx(1 - (r["rmse_rad"] / r["persistence_rad"]) ** 2)
    assert {p.title for p in a.plots if p.section == "Forecasts"} >= {
        "virtual/prediction/skill: skill",
        "virtual/prediction/skill: spread",
    }


def test_events_are_changes_and_not_repetitions(made):
    a = analyse(gather(str(made)))
    told = [(round(e.t), e.level, e.who) for e in a.events]
    assert told == [(5, 2, "twin_synchronizer"), (10, 0, "twin_synchronizer"), (15, 1, "drift_monitor")]
    level, words = verdict(a)
    assert level == 2 and "made_up" in words and "l_knee: friction" in words and "1 error and 1 warning" in words
    assert "10.0 cm at the end" in words and "\n" not in words


@pytest.mark.parametrize(
    ("without", "sections"),
    [
        ("ground_truth", {"Estimation error against the truth"}),
        (("virtual/prediction",), {"Forecasts"}),
        (("twin/drift",), {"Drift"}),
        (("twin/arrivals",), {"Latency"}),
        (
            ("joint_commands", "virtual", "ground_truth", "twin"),
            {"Tracking", "Latency", "Drift", "Forecasts", "Estimation error against the truth"},
        ),
    ],
)
def test_sections_appear_with_what_they_need(tmp_path, made, without, sections):
    everything = {p.section for p in analyse(gather(str(made))).plots}
    Maker(tmp_path / "run", without=without)
    a = analyse(gather(str(tmp_path / "run")))
    assert sections <= everything and not sections & {p.section for p in a.plots}
    text = page(a, verdict(a), "x")
    assert "joint_states" in text


def test_a_gap_is_found_and_said(tmp_path):
    Maker(tmp_path / "run", gap=(1000, 1100))
    a = analyse(gather(str(tmp_path / "run")))
    row = next(t for t in a.numbers["quality"]["topics"] if t["topic"] == "joint_states")
    assert row["gaps"] == 1 and row["longest_gap_s"] == pytest.approx(1.0, abs=0.02)
    assert any("no joint_states for 1.0" in e.what and e.t == pytest.approx(10.0, abs=0.1) for e in a.events)
    assert "joint states have 1 gap, the longest 1000 ms" in verdict(a)[1]


def test_the_page_stands_alone_and_its_data_are_whole(made):
    a = analyse(gather(str(made)))
    text = page(a, (1, "</script><script>alert(1)</script> & so on"), "A <title>")
    assert "alert(1)</script>" not in text.split("</style>", 1)[1].split("<script type", 1)[0]
    assert not re.search(r"""(src|href)=|https?://|url\(|@import""", text.split("<script type")[0])
    data = json.loads(re.search(r"id=data>(.*?)</script>", text, re.S).group(1))
    import base64

    assert len(data["plots"]) == text.count("<div class=plot>") > 10
    line = data["plots"][0]["series"][0]
    assert (
        len(np.frombuffer(base64.b64decode(line["t"]), "<f4"))
        == len(np.frombuffer(base64.b64decode(line["y"]), "<f4"))
        > 5
    )


@needs_icub
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_draws_it_without_an_error(made, tmp_path):
    """The script of the page reports into the title what it has drawn: pixels that are not blank, and errors."""
    a = analyse(gather(str(made)))
    probe = (
        "<script>window.onerror = m => { document.title = 'ERROR ' + m };</script>",
        "<script>setTimeout(() => { const drawn = [...document.querySelectorAll('canvas')].filter(c => c.width && "
        "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(x => x)).length;"
        "if (!document.title.startsWith('ERROR')) document.title = 'drawn ' + drawn + ' of ' + document.querySelectorAll('details[open] canvas').length }, 300)</script>",
    )
    text = page(a, verdict(a), "x")
    path = tmp_path / "x.html"
    path.write_text(text.replace("<main>", probe[0] + "<main>").replace("</html>", probe[1] + "</html>"))
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000", "--dump-dom"]
    done = subprocess.run(
        ["chromium", *flags, f"--user-data-dir={tmp_path}/p", f"file://{path}"],
        capture_output=True,
        text=True,
        timeout=90,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout).group(1)
    drawn, _, all_of_them = title.removeprefix("drawn ").partition(" of ")
    assert title.startswith("drawn") and drawn == all_of_them and int(drawn) >= 10, title


@needs_icub
def test_a_recording_without_outputs_is_replayed_first(tmp_path):
    command = [
        sys.executable,
        "-m",
        "digital_twin",
        "report",
        str(ICUB),
        "--robot-description",
        str(ICUB / "icub.urdf"),
    ]
    done = subprocess.run(
        [*command, "--html", str(tmp_path / "r.html"), "--json", str(tmp_path / "r.json")],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr
    r = json.loads((tmp_path / "r.json").read_text())
    assert (
        r["replayed"]
        and r["robot"] == "iCub"
        and r["estimation"]["base"]["distance_m"] == pytest.approx(1.53, abs=0.02)
    )
    assert r["estimation"]["base"]["position_rms_m"] < 0.027
    assert 100_000 < (tmp_path / "r.html").stat().st_size < 20_000_000


J = "sensor_msgs/msg/JointState"
ONE = JointStateCodec(JointState).writer(("a",))
ODD = {
    "a stranger": [("/chatter", "std_msgs/msg/String", T0, b"\0\1\0\0\2\0\0\0a\0")],
    "one message": [("/joint_states", J, T0, ONE.write(T0, np.array([1.0])))],
    "a type nobody knows": [("/joint_states", "foo_msgs/msg/Bar", T0 + k, bytes(60)) for k in range(50)],
    "a clock that jumps": [
        ("/joint_states", J, T0 + (k if k < 50 else k - 10**6) * 10**7, ONE.write(T0 + k * 10**7, np.array([np.nan if k % 7 == 0 else 1.0])))
        for k in range(100)
    ],
    "rubbish": [
        (topic, kind, T0 + k, np.random.default_rng(k).bytes(size))
        for k in range(30)
        for topic, kind, size in (
            ("/joint_states", J, 60), ("/virtual/joint_states", J, 0), ("/virtual/odom", "nav_msgs/msg/Odometry", 800),
            ("/twin/sync_status", "diagnostic_msgs/msg/DiagnosticArray", 30), ("/twin/arrivals", "std_msgs/msg/Int64MultiArray", 3),
            ("/twin/journal/twin_synchronizer", "std_msgs/msg/Int64MultiArray", 40), ("/virtual/prediction/skill", "std_msgs/msg/Float64MultiArray", 50),
            ("/virtual/prediction/joint_trajectory", "trajectory_msgs/msg/JointTrajectory", 50),
        )
    ],
}  # fmt: skip


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize(
    "command", [["report"], ["compare"], ["export", "--to", "hdf5"], ["replay", "--fast"]], ids=lambda c: c[0]
)
def test_odd_recordings_end_well_or_in_one_line(tmp_path, monkeypatch, capsys, what, command):
    r = Recording(tmp_path / "odd", RecordingConfig(min_free=0.0, keep=0.0), {})
    numbers = {}
    for topic, kind, t, data in ODD[what]:
        if topic not in numbers:
            numbers[topic] = r.declare(topic, kind)
        r.add(numbers[topic], t, data)
    r.close()
    before = {p.name: p.read_bytes() for p in (tmp_path / "odd").iterdir()}
    monkeypatch.chdir(tmp_path)
    code = main([command[0], *["odd"] * (1 + (command[0] == "compare")), *command[1:]])
    said = capsys.readouterr()
    assert code in (0, 2) and "Traceback" not in said.err
    if code == 2:
        assert said.err.startswith("digital-twin: ") and said.err.count("\n") == 1
    if command[0] == "report":
        words = json.loads((tmp_path / "odd_report.json").read_text())["verdict"]
        expected = {
            "a stranger": "no joint states",
            "a type nobody knows": "foo_msgs/msg/Bar",
            "a clock that jumps": "clock went back",
            "rubbish": "cannot be read",
        }
        assert expected.get(what, "") in words
    assert {p.name: p.read_bytes() for p in (tmp_path / "odd").iterdir()} == before


# Statistics


def test_autocorrelated_samples_count_for_less():
    """AR(1) with ρ: n (1 − ρ) / (1 + ρ) independent samples."""
    rng = np.random.default_rng(0)
    for rho in (0.0, 0.5, 0.9, 0.99):
        got = np.median([effective_size(ar1(rng, 20_000, rho)) for _ in range(20)])
        assert got == pytest.approx(20_000 * (1 - rho) / (1 + rho), rel=0.15), rho
    assert effective_size(np.ones(100)) == 100


def test_the_test_errs_as_often_as_it_says():
    """Same means, ρ = 0.95: p < 0.05 in about 5 % of runs. Without the correction it would be most of them."""
    rng = np.random.default_rng(1)
    p = np.array([compare_means(ar1(rng, 3000, 0.95), ar1(rng, 3000, 0.95)).p for _ in range(200)])
    assert 0.01 < (p < 0.05).mean() < 0.12
    inside = [
        d.low <= 0.5 <= d.high
        for d in (compare_means(ar1(rng, 3000, 0.95), 0.5 + ar1(rng, 3000, 0.95)) for _ in range(300))
    ]
    assert 0.88 < np.mean(inside) <= 0.99


def test_holm_is_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_two_runs_that_differ_and_two_that_do_not(tmp_path, made):
    Maker(tmp_path / "worse", error=0.006, seed=5)
    Maker(tmp_path / "same", seed=6)
    first = analyse(gather(str(made)))
    rows, notes = compare(first, analyse(gather(str(tmp_path / "worse"))))
    by_name = {r.name: r for r in rows}
    assert (
        "B is worse" in by_name["joints: virtual − true, mean"].meaning
        and by_name["joints: virtual − true, mean"].p < 0.01
    )
    assert by_name["joints: virtual − true, mean"].b == pytest.approx(
        3 * by_name["joints: virtual − true, mean"].a, rel=0.2
    )
    rows, _ = compare(first, analyse(gather(str(tmp_path / "same"))))
    assert not [r.name for r in rows if "worse" in r.meaning or "better" in r.meaning]
    assert notes == []


def test_thinning_keeps_every_peak():
    rng = np.random.default_rng(0)
    t = np.arange(100_000) / 100
    y = rng.normal(size=100_000)
    y[[17, 50_001]] = 100.0, -100.0
    y[200:300] = np.nan
    a, b = thin(t, y, 2000)
    assert len(a) <= 2100 and np.nanmax(b) == 100.0 and np.nanmin(b) == -100.0 and (np.diff(a) > 0).all()
    assert (a[0], a[-1]) == (t[0], t[-1])


# Tables


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Messages of all types that become columns, in other orders, with joints missing, and some that are none."""
    path = tmp_path_factory.mktemp("mixed") / "run"
    r = Recording(path, RecordingConfig(min_free=0.0), {"robot": "x"})
    rng = np.random.default_rng(0)
    numbers = {
        n: r.declare(f"/{n}", k)
        for n, k in (
            ("joint_states", "sensor_msgs/msg/JointState"),
            ("imu/data", "sensor_msgs/msg/Imu"),
            ("feet/left/wrench", "geometry_msgs/msg/WrenchStamped"),
        )
    }
    for k in range(400):
        ns = T0 + k * 5_000_000
        m = JointState(
            name=["a", "b"] if k < 200 else ["b", "a", "c"], position=[1.0, 2.0] if k < 200 else [2.0, 1.0, float(k)]
        )
        m.header.frame_id = "base" if k % 3 else "b"
        data = bytes(serialize_message(m))
        for name, message in (("imu/data", Imu()), ("feet/left/wrench", WrenchStamped())):
            message.header.frame_id = "imu"
            if name == "imu/data":
                message.angular_velocity.z = float(k)
                message.orientation.w = -1.0 if k % 2 else 1.0
            else:
                message.wrench.force.z = 10.0 * k
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(ns + 2_500_000, 10**9)
            if k % 2 == 0:
                r.add(numbers[name], ns, bytes(serialize_message(message)))
        m.header.stamp.sec, m.header.stamp.nanosec = divmod(ns, 10**9)
        data = bytes(serialize_message(m))
        r.add(numbers["joint_states"], ns, data if k % 50 else rng.bytes(90))
    r.close()
    return path


def test_tables_agree_with_rclpy_whatever_the_order_of_joints(mixed):
    with Bag(mixed) as bag:
        tables, _ = read_tables(bag, bag.topics)
    t = tables["/joint_states"]
    assert t.malformed == 8 and len(t) == 392
    order = np.argsort(t.stamps)
    assert np.all(t.column("position/a") == 1.0) and np.all(t.column("position/b") == 2.0)
    c = t.column("position/c")[order]
    k = (t.stamps[order] - T0) // 5_000_000
    assert np.isnan(c[k < 200]).all() and np.all(c[k >= 200] == k[k >= 200])
    w = tables["/imu/data"]
    assert np.array_equal(np.sort(w.values[:, 15]), np.arange(0, 400, 2.0)) and w.names[15] == "15"


@pytest.mark.parametrize("to", ["parquet", "hdf5"])
def test_exported_columns_are_aligned_and_know_their_units(mixed, tmp_path, to, capsys):
    target = export(str(mixed), to, str(tmp_path / "out"))
    if to == "parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(target)
        read = lambda name: table[name].to_numpy()  # noqa: E731
        unit = lambda name: table.schema.field(name).metadata[b"unit"].decode()  # noqa: E731
        assert table.schema.metadata[b"robot"] == b"x"
    else:
        import h5py

        table = h5py.File(target)
        read = lambda name: table[name][:]  # noqa: E731
        unit = lambda name: table[name].attrs["unit"]  # noqa: E731
        assert table.attrs["robot"] == "x"
    time, z, force = read("time"), read("imu/data/angular_velocity.z"), read("feet/left/wrench/force.z")
    assert len(time) == 392 and (
        unit("time"),
        unit("imu/data/angular_velocity.z"),
        unit("feet/left/wrench/force.z"),
    ) == ("s", "rad/s", "N")
    assert unit("joint_states/position/a") == "rad"
    # Sampled half a step late at every other step, and linear: interpolation gives the line back.
    k = (read("stamp") - T0) / 5_000_000
    inside = np.isfinite(z)
    assert (
        inside.sum() > 380
        and np.allclose(z[inside], k[inside] - 0.5, atol=1e-3)
        and np.allclose(force[inside], 10 * z[inside], atol=0.1)
    )
    w = read("imu/data/orientation.w")
    assert np.allclose(np.abs(w[inside]), 1.0), "signs of quaternions are no motion"


def test_export_resamples_and_refuses_what_it_cannot_do(mixed, tmp_path, monkeypatch):
    target = export(str(mixed), "hdf5", str(tmp_path / "o.h5"), rate=50.0, topics=["imu/data"])
    import h5py

    with h5py.File(target) as f:
        assert np.allclose(np.diff(f["time"][:]), 0.02) and set(f) == {"time", "stamp", "imu"}
    with pytest.raises(ConfigError, match="did you mean 'imu/data'"):
        export(str(mixed), "hdf5", str(tmp_path / "p.h5"), topics=["imu/dat"])
    with pytest.raises(ConfigError, match="out of range"):
        export(str(mixed), "hdf5", str(tmp_path / "p.h5"), rate=-1.0)
    with pytest.raises(TwinError, match="cannot write the table"):
        export(str(mixed), "hdf5", str(tmp_path / "no/where.h5"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(TwinError, match="needs pyarrow, which is not installed: pip install pyarrow"):
        export(str(mixed), "parquet", str(tmp_path / "p.parquet"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.h5"], "nothing half done is left"
