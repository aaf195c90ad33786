"""What a defended classifier is worth on clean images: accuracy, calibration and cost."""
