"""The pinhole camera and the position of a thing on the street."""

from dataclasses import dataclass

import numpy as np

# Measured on the pilot: 330 px of focal length at a width of 384 px, eye height 1.6 m.
FOCAL_PER_WIDTH = 330 / 384
EYE_HEIGHT = 1.6
# Nothing is drawn nearer than this: a vertex behind the camera has no image.
NEAR = 0.8


@dataclass(frozen=True)
class Camera:
    """Pinhole camera that looks along +z, ``eye`` metres above a flat ground.

    Args:
        height: Image height in pixels.
        width: Image width in pixels.
        horizon: Row of the horizon in pixels.
        vanish: Column of the vanishing point in pixels.
        focal: Focal length in pixels.
        eye: Height of the camera above the ground in metres.
    """

    height: int
    width: int
    horizon: float
    vanish: float
    focal: float
    eye: float = EYE_HEIGHT

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project world points.

        Args:
            points: Nx3 array of x (right), y (up from the ground), z (ahead), metres.

        Returns:
            Nx2 array of column and row in pixels.
        """
        scale = self.focal / np.maximum(points[:, 2], NEAR)
        return np.stack(
            [
                self.vanish + points[:, 0] * scale,
                self.horizon + (self.eye - points[:, 1]) * scale,
            ],
            axis=1,
        )

    def lateral_range(self, z: float) -> tuple[float, float]:
        """Leftmost and rightmost x in metres that is in the picture at depth z."""
        return (
            -self.vanish * z / self.focal,
            (self.width - self.vanish) * z / self.focal,
        )


@dataclass(frozen=True)
class Pose:
    """Where a thing stands: centre on the ground and heading.

    Args:
        x: Metres to the right of the camera.
        z: Metres ahead of the camera.
        yaw: Heading in radians; 0 drives away from the camera, pi comes towards it,
            pi / 2 goes to the right.
    """

    x: float
    z: float
    yaw: float = 0.0

    def world(self, points: np.ndarray) -> np.ndarray:
        """Local points to world points.

        Args:
            points: Nx3 array of along (forward), across (right), up, in metres.

        Returns:
            Nx3 array of x, y, z in metres.
        """
        points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        sin, cos = np.sin(self.yaw), np.cos(self.yaw)
        along, across, up = points.T
        return np.stack(
            [
                self.x + along * sin + across * cos,
                up,
                self.z + along * cos - across * sin,
            ],
            axis=1,
        )
