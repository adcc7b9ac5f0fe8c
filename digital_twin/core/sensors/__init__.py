"""Virtual sensors: an ideal measurement from the twin's scene, then everything that a real instrument does to it."""
