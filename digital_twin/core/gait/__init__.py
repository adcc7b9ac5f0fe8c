"""Walking, balance and falling: footsteps, the pendulum, the whole body, and the controller that puts them together."""
