"""What two packages or more use: errors, configuration, randomness, hardware, files, images."""
