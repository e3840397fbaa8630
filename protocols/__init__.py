"""What is learnt and when: data sets, class orders, steps, splits and labels. Knows no network."""
