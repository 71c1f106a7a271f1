"""What joins containers: bounded queues, and how a container reads from several and sends to many."""
