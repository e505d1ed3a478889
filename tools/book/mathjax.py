"""MathJax, fetched once from its npm package and verified, so that the book shows its formulas without a network.

Apache License 2.0, https://www.mathjax.org. What MathJax would fetch itself while a page is open is here too: the
fonts, and the extensions that some commands ask for.
"""

import shutil
from pathlib import Path

from minilip.data import home
from minilip.data.fetch import File, Package, fetch

# fmt: off
MATHJAX = Package("mathjax", "3.2.2", {
    "es5/tex-mml-chtml.js":
        File(1173007, "300480069078b5892d2363a2b65e2dfbbf30fe5c80f83edbfecf4610fd093862"),
    "es5/input/tex/extensions/bbox.js":
        File(3006, "73d208a3425ed27dea7ed61f5984b43accfba8949bad7077d3eac47e668ba764"),
    "es5/input/tex/extensions/boldsymbol.js":
        File(4056, "d6771fee0772db2657796c8d0e20e1878bb3237f6d3ed1e828e1834a4ff743ca"),
    "es5/input/tex/extensions/braket.js":
        File(6729, "2abb032ca0eaff9fb2322a28b5d14ba058e7934d3e56974c55f574059e907a4c"),
    "es5/input/tex/extensions/cancel.js":
        File(3326, "0d263ecf2671d1cc13135b8b4afcdca4d40151a9aea51b69402e68adde4cf8c9"),
    "es5/input/tex/extensions/centernot.js":
        File(3477, "a1e4be1e20d190a553c74796054335f5f7790414deb966cdc8a78e941a28a351"),
    "es5/input/tex/extensions/color.js":
        File(8627, "7fdc8f7cda1630f35ccd579379ba04add9dec50c66cebbc05a4b129027b32435"),
    "es5/input/tex/extensions/enclose.js":
        File(2387, "8804f756f369946919c388f587f80cf2d1fd9151f76ed37570d01af8d7fb3f4c"),
    "es5/input/tex/extensions/upgreek.js":
        File(2676, "4335d722671b77186d6490e326adad5f727ed2db954deafece2d10803cb651a1"),
    "es5/input/tex/extensions/verb.js":
        File(2562, "fdaface3c13d4f2a9e3013bf986fca04d63175c69eec99b17705f006a6528dc7"),
    "es5/output/chtml/fonts/woff-v2/MathJax_AMS-Regular.woff":
        File(40808, "3de784d07b9fa8f104c10928a878ee879cf3305cae5195cba663c9c2bb0195eb"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Calligraphic-Bold.woff":
        File(9908, "af04542b29eaac04550a140c5f1760a649783989426f2540855bf4157819367d"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Calligraphic-Regular.woff":
        File(9600, "26683bf201fb258a2237d9754616de9d4ecf4cc1cd39dd1902476df7d75f1d16"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Fraktur-Bold.woff":
        File(22340, "721921bab0d001ebff0206c24cb5de6ca136467bf1843a7aa32030ba061d1e92"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Fraktur-Regular.woff":
        File(21480, "870673df72e70f87c91a5a317d558c2c3b54392264ad79bbadc6d424ae8765fe"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Main-Bold.woff":
        File(34464, "88b98cad3688915e50da55553ff6ad185e0dce134b47f176e91b100f8a9b175c"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Main-Italic.woff":
        File(20832, "355254db9ca10a09a3b5f0929d74eb4670f44fbe864c07526a06213e0a0caf6c"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Main-Regular.woff":
        File(34160, "1cb1c39ea642f26a4dfed230b4aea1c3c218689421f6e9c0a7c1811693c4fa07"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Math-BoldItalic.woff":
        File(19776, "8ea8dbb1b02e6f730f55b4cb5d413b785b9f5c39807d0a0fa7da206a0824a457"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Math-Italic.woff":
        File(19360, "a009bea404f7a500ded48f8b9ad9cf16e12504b3195dd9e25975289b8256b0f0"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Math-Regular.woff":
        File(19288, "c01d3321e89b403c4b811aa153c4e618eda3421f92d8a072a02c8d190782a191"),
    "es5/output/chtml/fonts/woff-v2/MathJax_SansSerif-Bold.woff":
        File(15944, "32792104b5ef69eded905b6d1598ed05d8087684d38e7a94d52e3c38ba16f47e"),
    "es5/output/chtml/fonts/woff-v2/MathJax_SansSerif-Italic.woff":
        File(14628, "fc6ddf5df402b263cfb158aed8e89972542c34b719cd87b1db30461985f7bd5b"),
    "es5/output/chtml/fonts/woff-v2/MathJax_SansSerif-Regular.woff":
        File(12660, "b418136e3b384baaadecb70bd3c48a8da9825210130b2897db808c44efc883cb"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Script-Regular.woff":
        File(11852, "af96f67d7accf5fd2a4a682d0b9f8b339f8ea6fe34c310c1694c8ba7f6ddc96f"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Size1-Regular.woff":
        File(5792, "c49810b53ecc0d87d8028762c518924197dd9d3f905b08f99ea241301085b9cb"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Size2-Regular.woff":
        File(5464, "30e889b58cbc51adfbb038ab1a96dc4025aa3542a3cff7712fc55ece510675e2"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Size3-Regular.woff":
        File(3244, "5cda41563a095bd70c78e2dda13d0f8cb922c71c90fffd0a0044c65173a66e83"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Size4-Regular.woff":
        File(5148, "3bc6ecaae7ecf6f8d7f8ea07bddbaca8601e2cb6e89d6aef58e78d9f6d8a398f"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Typewriter-Regular.woff":
        File(17604, "c56da8d69f1a0208b8e0703656c3264b6dd748bd452524c82b0385b60f6a68c1"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Vector-Bold.woff":
        File(1116, "36e0d72d8a7afc696a3e7a5c7369807634640de9b02257bca447bdf126221a27"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Vector-Regular.woff":
        File(1136, "72bc573386dd1d48c5bbd286302ca9e3400c5eb0f298e7cfbf945b9d08fc688f"),
    "es5/output/chtml/fonts/woff-v2/MathJax_Zero.woff":
        File(1368, "481e39042508ae313a60618af1e37146ab93e9324c98e4c78b8f17fe55d41e0b"),
})
# fmt: on


def copy(out: Path) -> None:
    """Put MathJax into the folder `out`.

    Raises:
        MissingData: it is not in the cache and there is no network.
    """
    fetch([MATHJAX], home(), command="make book")
    for path in MATHJAX.files:
        target = out / path.removeprefix("es5/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(MATHJAX.folder(home()) / path, target)
