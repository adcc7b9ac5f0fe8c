"""What the nodes share: messages, QoS, parameters, start and stop. The only part that knows rclpy besides the nodes."""
