"""What the stages share: the data on the device, who teaches, how a student is trained, who looks at the pool."""
