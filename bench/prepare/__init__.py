"""What happens before serving: click logs read, memory tables built, graphs exported."""
