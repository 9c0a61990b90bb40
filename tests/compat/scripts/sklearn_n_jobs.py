"""scikit-learn: n_jobs over joblib's multiprocessing backend."""

# requires: sklearn joblib
import joblib
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score

if __name__ == "__main__":
    X, y = make_classification(n_samples=120, n_features=8, random_state=0)
    with joblib.parallel_backend("multiprocessing", n_jobs=2):
        print(cross_val_score(LogisticRegression(), X, y, cv=4, n_jobs=2).round(6).tolist())
        search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0, 10.0]}, cv=3, n_jobs=2).fit(X, y)
        print(search.best_params_, round(search.best_score_, 6))
        forest = RandomForestClassifier(n_estimators=12, random_state=1, n_jobs=2).fit(X, y)
        print(round(forest.score(X, y), 6), forest.predict_proba(X[:2]).round(4).tolist())
