import imp, sklearn
try:
    import a
except ImportError:
    a = None
class A:
    yield 1
for x in y:
    break
return (x := 1)
