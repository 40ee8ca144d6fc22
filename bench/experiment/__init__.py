"""What an experiment's verdict and a drift alarm are worth: simulated A/A and A/B tests, and logs that change."""
