"""`python -m mirage_ros.demo`."""

from mirage_ros.demo.run import main

if __name__ == "__main__":
    main()
