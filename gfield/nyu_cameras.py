"""The two cameras of NYU Depth v2's Kinect, what its raw depth means, and how depth comes into the colour picture.

All numbers are those that N. Silberman published with the data set, in ``camera_params.m`` of
``toolbox_nyu_depth_v2.zip`` (cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html). The toolbox multiplies points by a
rotation with all signs turned and adds its translation; the signs cancel in the picture, so here the rotation is a
proper one and the translation is turned. It takes the translation in the order x, z, y, which is kept: so its depth
falls where the published projection mask has it, rows 45-471 and columns 41-601 counted from 1.

What is done as in ``project_depth_map.m``, and what is not:

- The colour picture is freed of distortion, bilinear, white where it saw nothing. The labelled pictures have that
  frame too.
- A depth value goes to one pixel of the colour picture, the nearest surface stays, holes stay holes, and the value is
  z in the depth camera's frame (z in the colour camera's differs by up to 0.4 %).
- Beyond 10 m is 10 m, as there: a bound rather than a measurement, which training clamps to and no protocol scores.
- Below 0 m, which is what the formula gives from 1093 on, is no depth: stores have NaN where the toolbox has 0.
- The toolbox first resamples the raw values without distortion, which mixes near and far at every edge and then has to
  erase what touches a hole. Here each measured pixel keeps its value and goes along its own ray.
- The toolbox counts pixels from 1 in one step and from 0 in another, 0.1 pixels in the result. Here always from 0.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from gfield.frame import Region
from gfield.projection import Camera, DepthProjection, Undistortion

SIZE_WH = (640, 480)
MAX_METRES = 10.0
NO_RETURN = 2047  # the greatest of 11 bits

# The labelled pictures' scene without their white frame; this lens leaves one more pixel on each side.
INSIDE_WHITE_FRAME = Region(top=8, bottom=473, left=8, right=631)

RGB_CAMERA = Camera(
    fx=5.1885790117450188e02,
    fy=5.1946961112127485e02,
    cx=3.2558244941119034e02,
    cy=2.5373616633400465e02,
    k1=2.0796615318809061e-01,
    k2=-5.8613825163911781e-01,
    p1=7.2231363135888329e-04,
    p2=1.0479627195765181e-03,
    k3=4.9856986684705107e-01,
)
DEPTH_CAMERA = Camera(
    fx=5.8262448167737955e02,
    fy=5.8269103270988637e02,
    cx=3.1304475870804731e02,
    cy=2.3844389626620386e02,
    k1=-9.9897236553084481e-02,
    k2=3.9065324602765344e-01,
    p1=1.9290592870229277e-03,
    p2=-1.9422022475975055e-03,
    k3=-5.1031725053400578e-01,
)
# From the depth camera's frame to the colour camera's: rotation @ point + translation, metres.
ROTATION = np.array(
    [
        [9.9997798940829263e-01, -5.0359919480810989e-03, -4.3196624923060242e-03],
        [5.0518419386157446e-03, 9.9998051861143999e-01, 3.6662365748484798e-03],
        [4.3011152014118693e-03, -3.6879781309514218e-03, 9.9998394948385538e-01],
    ]
)
TRANSLATION = np.array([-2.5031875059141302e-02, 2.9342312935846411e-04, -6.6238747008330102e-04])

NOTES = {
    "rgb": "freed of the lens's distortion (camera_params.m of the toolbox of NYU Depth v2), bilinear; white where the "
    "camera saw nothing; valid_region is inside of that",
    "depth": "metres = 351.3 / (1092.5 - raw), what is beyond 10 m as 10; NaN where raw is 2047 (no return) or the "
    "formula gives less than 0. Each measured pixel is undistorted along its ray and projected into the undistorted "
    "RGB picture with the published cameras; nearest pixel, the nearest surface stays, holes are NaN, none is filled. "
    "The value is z in the depth camera's frame, as in the labelled data set",
}


def _metres_of_raw() -> npt.NDArray[np.float32]:
    raw_K = np.arange(NO_RETURN + 1)
    metres_K = 351.3 / (1092.5 - raw_K)
    return np.where(metres_K < 0, np.nan, metres_K.clip(max=MAX_METRES)).astype(np.float32)


# Metres for each of the 2,048 raw values, NaN for those that are no depth.
METRES_OF_RAW = _metres_of_raw()


@functools.cache
def undistortion() -> Undistortion:
    """How the colour pictures are undistorted; the tables are made once in a process."""
    return Undistortion(RGB_CAMERA, SIZE_WH)


@functools.cache
def depth_projection() -> DepthProjection:
    """How raw depth comes into the undistorted colour pictures; the tables are made once in a process, in 0.2 s."""
    return DepthProjection(DEPTH_CAMERA, RGB_CAMERA, ROTATION, TRANSLATION, SIZE_WH, METRES_OF_RAW)
