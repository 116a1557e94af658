"""The toy problems that recurrent networks have been measured by since 1990, each trained in minutes on one core."""
