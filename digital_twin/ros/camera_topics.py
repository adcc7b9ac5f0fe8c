"""What a virtual camera publishes: images as bytes, and their CameraInfo."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image

from digital_twin.core.sensors.camera import Camera
from digital_twin.core.sensors.camera import CameraInfo as Calibration
from digital_twin.core.sensors.camera_description import CameraMount
from digital_twin.ros.cdr import LITTLE_ENDIAN, pack_image_head, pack_stamp
from digital_twin.ros.node import TwinNode
from digital_twin.ros.qos import SENSOR_OUT


class ImageWriter:
    """Writes sensor_msgs/Image of one size, frame and encoding: one copy of the pixels, no Python object for each."""

    def __init__(self, frame: str, height: int, width: int, encoding: str, pixel_bytes: int) -> None:
        self._head = pack_image_head(frame, height, width, encoding, pixel_bytes * width)
        self._size = height * width * pixel_bytes

    def write(self, stamp_ns: int, pixels: NDArray[Any]) -> bytes:
        """pixels: of the size that was given, little endian."""
        body = np.ascontiguousarray(pixels).tobytes()
        if len(body) != self._size:
            raise ValueError(f"expected {self._size} bytes of pixels, got {len(body)}")
        return LITTLE_ENDIAN + pack_stamp(stamp_ns) + self._head + body


class CameraTopics:
    """The topics of one camera below virtual/camera/NAME.

    Attributes:
        raw: whether image_raw holds the sensor's own numbers.
        colour_wanted, depth_wanted: whether somebody listens, as of the last `look`.
    """

    def __init__(
        self, node: TwinNode[Any], mount: CameraMount, camera: Camera, *, raw: bool, depth_encoding: str
    ) -> None:
        c = camera.config
        self._prefix = f"virtual/camera/{camera.name}"
        self._node = node
        frame = node.frame(mount.frame or mount.link)
        self.raw = raw
        self.colour_wanted = self.depth_wanted = False
        self._topics: dict[str, list[str]] = {"colour": [], "depth": []}
        self._outputs: dict[str, Any] = {}
        if c.kind != "depth_camera":
            encoding = camera.raw_encoding if raw else camera.encoding
            size = 3 if encoding == "rgb8" else 2 if encoding.endswith("16") else 1
            self._add("colour", "", "image_raw", frame, c.height, c.width, encoding, size, camera.info())
        if c.kind != "camera":
            size = 4 if depth_encoding == "32FC1" else 2
            info = camera.info(rectified=True)
            self._add("depth", "depth/", "image_rect", frame, c.height, c.width, depth_encoding, size, info)

    def _add(
        self,
        what: str,
        folder: str,
        name: str,
        frame: str,
        height: int,
        width: int,
        encoding: str,
        size: int,
        info: Calibration,
    ) -> None:
        writer = ImageWriter(frame, height, width, encoding, size)
        message = camera_info(info, frame)
        image = self._node.talk(Image, f"{self._prefix}/{folder}{name}", SENSOR_OUT)
        calibration = self._node.talk(CameraInfo, f"{self._prefix}/{folder}camera_info", SENSOR_OUT)
        names = [f"{self._prefix}/{folder}{t}" for t in (name, "camera_info")]
        self._topics[what] = [self._node.resolve_topic_name(n) for n in names]
        self._outputs[what] = (writer, image, calibration, message)

    def look(self) -> bool:
        """See who listens; whether anybody does."""
        self.colour_wanted, self.depth_wanted = (
            any(self._node.count_subscribers(topic) > 0 for topic in self._topics[what]) for what in ("colour", "depth")
        )
        return self.colour_wanted or self.depth_wanted

    def publish(self, what: str, stamp_ns: int, pixels: NDArray[Any]) -> None:
        """An image, "colour" or "depth", with its CameraInfo of the same stamp."""
        writer, image, calibration, info = self._outputs[what]
        info.header.stamp.sec, info.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        image(writer.write(stamp_ns, pixels))
        calibration(info)


def camera_info(c: Calibration, frame: str) -> CameraInfo:
    """As a message, without stamp."""
    m = CameraInfo(width=c.width, height=c.height, distortion_model=c.model, d=c.d.tolist())
    m.header.frame_id = frame
    m.k, m.r, m.p = (x.ravel().tolist() for x in (c.k, c.r, c.p))
    return m
