"""List the files of the image sets: addresses and checksums."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageFile:
    """Description of one file; implements `tasks.File`.

    Attributes:
        name: Name of the data set.
        file: Path below the data folder.
        bytes: Size of the unpacked file; an archive counts as it is.
        sha256: SHA-256 of the same bytes, in hexadecimal.
        url: Public address.
    """

    name: str
    file: str
    bytes: int
    sha256: str
    url: str
    member: None = None
    rewrite: tuple[tuple[str, str], ...] = ()
    keep: None = None
    convert: None = None
    shipped: None = None


def _idx(name: str, address: str, sums: dict[str, tuple[int, str]]) -> tuple[ImageFile, ...]:
    return tuple(
        ImageFile(name, f"{name}/{file}.gz", size, sha256, f"{address}/{file}.gz")
        for file, (size, sha256) in sums.items()
    )


FILES: dict[str, tuple[ImageFile, ...]] = {
    "digits": (),
    "mnist": _idx(
        "mnist",
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        {
            "train-images-idx3-ubyte": (
                47_040_016,
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            "train-labels-idx1-ubyte": (60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
            "t10k-images-idx3-ubyte": (7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
            "t10k-labels-idx1-ubyte": (10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
        },
    ),
    "fashion-mnist": _idx(
        "fashion-mnist",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        {
            "train-images-idx3-ubyte": (
                47_040_016,
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            "train-labels-idx1-ubyte": (60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
            "t10k-images-idx3-ubyte": (7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
            "t10k-labels-idx1-ubyte": (10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
        },
    ),
    "cifar10": (
        ImageFile(
            "cifar10",
            "cifar10/cifar-10-binary.tgz",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        ),
    ),
}
"""The files of every image set, by its name; ``digits`` comes with scikit-learn."""
