"""What the twin knows about robots, physics and estimation. Nothing here knows ROS."""
