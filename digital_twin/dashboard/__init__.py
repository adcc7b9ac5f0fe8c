"""The live page: a viser server, what it shows and who may see it. Knows no ROS."""
