"""What rules on a ranking cost: filters of every selectivity, and five rules together."""
