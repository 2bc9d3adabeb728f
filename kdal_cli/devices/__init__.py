"""Device, precision, and several processes as one."""
