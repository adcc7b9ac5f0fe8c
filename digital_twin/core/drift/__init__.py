"""Does the robot still behave like its model? Residuals, detectors, hypotheses, identification, versions of the model."""
